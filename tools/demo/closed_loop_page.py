"""Write a page of what benchmarks/closed_loop.py measured: stops, misses, and a video.

    python tools/demo/closed_loop_page.py DIR [--bundle corridor]

Reads DIR/summary_development.json and, if the sealed kinds were run, DIR/summary_sealed.json, with
the files of the encounters. Writes DIR/index.html and DIR/drive.webm.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from drive_page import VIDEO, inline, top_view, write_video
from drive_record import DriveRecord, Sight
from run_page import TEMPLATES, ShownPicture, Tile

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.sim.camera.rendering import CAMERA
from nav_monitor_ros.sim.encounters import Encounter, Outcome, draw_encounter
from nav_monitor_ros.sim.loop import ClosedLoop
from nav_monitor_ros.sim.monitor_detectors import MonitorDetector
from nav_monitor_ros.views.pages.data_uris import data_uri, photo_uri
from nav_monitor_ros.views.pages.rendering import render

PARTS = ('development', 'sealed')
DETECTORS = {
    'monitor': 'monitor', 'three_in_a_row': 'three flagged images in a row', 'knn': 'kNN',
    'energy': 'energy', 'msp': 'max-softmax', 'colors': 'colour histogram', 'none': 'no monitor',
}
MISSED = (Outcome.CONTACT.value, Outcome.PASSED.value)
SHOWN = 12  # pictures of stops; misses are all shown
FILM = 40.0  # s, longest video
_EVERY_NS = round(1e9 / CAMERA.rate)


@dataclass(frozen=True)
class Row:
    """One kind of object, and how many of its encounters each detector stopped for in time."""

    kind: str
    is_sealed: bool
    stops: list[str]


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, metavar='DIR')
    parser.add_argument('--bundle', default='corridor')
    options = parser.parse_args()
    try:
        write_page(options.folder, options.bundle)
    except NavMonitorError as error:
        print(f'closed_loop_page: {error}', file=sys.stderr)
        return 2
    print(f'wrote {options.folder / "index.html"}')
    return 0


def write_page(folder: Path, bundle: str) -> None:
    """Write the page of a folder of results.

    Raises:
        NavMonitorError: The folder holds no results, or the bundle cannot be used.
    """
    summaries = {
        part: json.loads(path.read_text(encoding='utf-8'))
        for part in PARTS if (path := folder / f'summary_{part}.json').is_file()
    }
    if not summaries:
        raise NavMonitorError(f'{folder} holds no summary; run benchmarks/closed_loop.py first')
    encounters = [
        json.loads(path.read_text(encoding='utf-8'))
        for path in sorted((folder / 'encounters' / 'monitor').glob('*.json'))
    ]
    stops = [one for one in encounters if one['outcome'] == Outcome.STOPPED.value]
    misses = [one for one in encounters if one['outcome'] in MISSED]
    ordinary = next(iter(summaries.values()))['ordinary']
    rows, detectors = _rows(summaries)
    counted = sum(Outcome(one['outcome']).counts for one in encounters)
    film = ''
    if stops:
        write_video(folder / VIDEO, filmed(stops[0], bundle), CAMERA.rate)
        film = data_uri('video/webm', (folder / VIDEO).read_bytes())
    page = render(
        'closed_loop.html', templates=TEMPLATES,
        headline=f'{len(stops)} of {counted} robots stopped before contact',
        lead='Simulated robots drove towards objects that neither the network nor the monitor had '
        'seen in training. Each counts as stopped only if it stood still before contact because '
        'of the alert, and the same drive without the object did not stop there.',
        tiles=list(_tiles(len(stops), counted, ordinary)),
        detectors=[DETECTORS[name] for name in detectors], rows=rows,
        stops=[_shown(folder, one) for one in _spread(stops, SHOWN)],
        misses=[_shown(folder, one) for one in misses],
        views=[_seen_from_above(one) for one in [*_spread(stops, 3), *_spread(misses, 3)]],
        film=film, filmed=_name(stops[0]['kind']) if stops else '',
    )
    (folder / 'index.html').write_text(page, encoding='utf-8')


def _tiles(stops: int, counted: int, ordinary: Mapping[str, Any]) -> Iterator[Tile]:
    low, high = ordinary['false_stops_per_hour_interval']
    yield Tile(f'{stops / max(counted, 1):.0%}', f'of {counted} encounters stopped in time')
    yield Tile(
        f'{ordinary["false_stops_per_hour"]:.1f}',
        f'false stops per hour (95 % interval: {low:.1f} to {high:.1f}) in '
        f'{ordinary["hours"]:.1f} h',
        is_alert=True)
    yield Tile(f'{ordinary["share_true"]:.2%}', 'of ordinary driving with the alert True')
    yield Tile(f'{ordinary["distance_share"]:.1%}', 'of the distance without a monitor')


def _rows(summaries: Mapping[str, Mapping[str, Any]]) -> tuple[list[Row], list[str]]:
    detectors = [
        name for name in DETECTORS
        if any(name in summary['encounters'] for summary in summaries.values())
    ]
    rows = [
        Row(_name(kind), part == 'sealed', [
            _share(summary['encounters'].get(name, {}).get(kind)) for name in detectors])
        for part, summary in summaries.items()
        for kind in next(iter(summary['encounters'].values())) if kind != 'all'
    ]
    return rows, detectors


def _share(cell: Mapping[str, Any] | None) -> str:
    return '–' if cell is None else f'{cell["stopped"]} of {cell["encounters"]}'


def _name(kind: str) -> str:
    return kind.replace('_', '-')


def _spread(records: list[dict], count: int) -> list[dict]:
    """Return some records, evenly spread over all."""
    places = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).round())
    return [records[int(place)] for place in places]


def _shown(folder: Path, record: Mapping[str, Any]) -> ShownPicture:
    path = folder / 'encounters' / 'monitor' / f'{record["kind"]}_{record["seed"]}.png'
    image = cv2.imread(str(path))
    gap, alert = record['end_gap'], record['alert_gap']
    if record['outcome'] == Outcome.STOPPED.value:
        text = f'stopped {gap:.2f} m before it, the alert came at {alert:.2f} m'
    elif alert is None:
        text = 'no alert'
    else:
        text = f'the alert came at {alert:.2f} m'
    return ShownPicture(_name(record['kind']), text, photo_uri(image[:, :, ::-1]))


def _seen_from_above(record: Mapping[str, Any]) -> ShownPicture:
    encounter = draw_encounter(record['kind'], record['seed'])
    end = np.array([record['end_x'], record['end_y']])
    path = encounter.world.path[encounter.start:]
    nearest = int(np.hypot(*(path - end).T).argmin())
    driven = np.vstack([path[:nearest + 1], end])
    svg = inline(lambda: top_view(encounter.world, driven), 'an encounter from above')
    title = 'stopped' if record['outcome'] == Outcome.STOPPED.value else 'missed'
    return ShownPicture(title, _name(record['kind']), svg)


def filmed(record: Mapping[str, Any], bundle: str) -> DriveRecord:
    """Return an encounter run once more, with all images."""
    encounter: Encounter = draw_encounter(record['kind'], record['seed'])
    detector = MonitorDetector(Monitor(load_bundle(bundle)))
    film = DriveRecord()
    loop = ClosedLoop(
        encounter.compiled, detector, seed=encounter.seed, start=encounter.start)
    for number, step in enumerate(loop.run(min(record['end_time'] + 1.0, FILM))):
        verdict = detector.verdict
        if step.image is None or verdict is None:
            continue
        stamp = number * _EVERY_NS
        film.images[stamp] = step.image
        alert = step.alert is None or step.alert.value
        film.sights.append(Sight(
            step.time, stamp, verdict.class_name, verdict.p_value, verdict.is_ood, alert,
            'starting' if step.alert is None else step.alert.reason.value,
            step.state.pose.x, step.state.pose.y, step.state.speed, step.gap))
    return film


if __name__ == '__main__':
    sys.exit(main())
