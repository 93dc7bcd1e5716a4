"""Measure contact or no contact: a simulated robot, its camera and a monitor, in lock-step.

    python benchmarks/closed_loop.py --bundle corridor --output DIR [--encounters 25] [--hours 2]
    python benchmarks/closed_loop.py --bundle corridor --output DIR --sealed

The kinds of unknown objects are those for development in closed_loop_kinds.yaml; ``--sealed`` runs
the sealed ones, once, at the end. Definitions: docs/simulator.md. Every drive and every encounter
is a file in DIR, so that an interrupted run continues; DIR/summary.json, stopped_*.png and
missed_*.png are written at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from rich.progress import track
from scipy.stats import beta, chi2

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.shipped import find_bundle
from nav_monitor_ros.decision.alert.state_machine import AlertRules
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import atomic_file, write_file
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.sim.detectors import ColorDetector, ColorHistogram, Detector, NoDetector
from nav_monitor_ros.sim.drives import labelled_drive
from nav_monitor_ros.sim.encounters import Outcome, draw_encounter, run_encounter
from nav_monitor_ros.sim.monitor_detectors import MonitorDetector, ScoreDetector
from nav_monitor_ros.sim.ordinary_drives import (
    DriveRecord,
    distance_share,
    record_drive,
    threshold_for,
)

KINDS = Path(__file__).with_name('closed_loop_kinds.yaml')
# Seeds of ordinary drives, of drives with known objects in unseen dress, and of the drives that
# the colour histogram knows; training uses those from 0 on.
ORDINARY, UNSEEN_DRESS, COLORS = 1_000_000, 2_000_000, 3_000_000
COLOR_DRIVES = 40
SCORES = ('msp', 'energy', 'knn')
MOST_DRAWS = 10  # for each encounter that counts
CONFIDENCE = 0.95


def main() -> int:
    """Run or continue the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bundle', default='corridor')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR')
    parser.add_argument('--encounters', type=int, default=25, help='of each kind')
    parser.add_argument('--hours', type=float, default=2.0, help='of ordinary driving')
    parser.add_argument('--sealed', action='store_true', help='run the sealed kinds')
    parser.add_argument('--detectors', default='', help='comma-separated (default: all)')
    options = parser.parse_args()
    try:
        Measurement(options).run()
    except NavMonitorError as error:
        print(f'closed_loop: {error}', file=sys.stderr)
        return 2
    return 0


class Measurement:
    """The measurement in one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the bundle and check that the folder belongs to it."""
        self._options = options
        self._folder: Path = options.output
        split = yaml.safe_load(KINDS.read_text(encoding='utf-8'))
        self._kinds: list[str] = split['sealed' if options.sealed else 'development']
        self._monitor = Monitor(load_bundle(options.bundle), also=list(SCORES))
        self._judged = MonitorDetector(self._monitor)
        description = (find_bundle(options.bundle) / 'bundle.yaml').read_bytes()
        settings = json.dumps({'bundle': hashlib.sha256(description).hexdigest()}).encode()
        path = self._folder / 'settings.json'
        if path.exists() and path.read_bytes() != settings:
            raise NavMonitorError(f'{self._folder} holds results of another bundle')
        write_file(path, settings)

    def run(self) -> None:
        """Run everything that is not there yet, and write the summary."""
        colors = ColorHistogram(self._color_images())
        ordinary = self._drives('ordinary', ORDINARY, self._options.hours, colors, False)
        dressed = self._drives(
            'unseen_dress', UNSEEN_DRESS, self._options.hours / 4, colors, True)
        allowed = sum(drive.false_stops for drive in ordinary)
        thresholds = {
            name: threshold_for([drive.scores[name] for drive in ordinary], allowed)
            for name in (*SCORES, 'colors')
        }
        makers: dict[str, Callable[[], Detector]] = {
            'monitor': lambda: self._judged,
            'none': NoDetector,
            'three_in_a_row': lambda: MonitorDetector(
                self._monitor, AlertRules(evidence='k_of_n')),
            'colors': lambda: ColorDetector(colors, thresholds['colors']),
        }
        for name in SCORES:
            makers[name] = lambda name=name: ScoreDetector(self._monitor, name, thresholds[name])
        wanted = [name for name in self._options.detectors.split(',') if name] or list(makers)
        results = {name: self._encounters(name, makers[name]()) for name in wanted}
        summary = {
            'ordinary': summarise_drives(ordinary),
            'unseen_dress': summarise_drives(dressed),
            'thresholds': thresholds,
            'encounters': {
                name: summarise_encounters(records, self._kinds)
                for name, records in results.items()
            },
        }
        part = 'sealed' if self._options.sealed else 'development'
        write_file(
            self._folder / f'summary_{part}.json', json.dumps(summary, indent=1).encode() + b'\n')
        for name, records in results.items():
            self._sheet(name, records, part)
        print(json.dumps(summary, indent=1))

    def _color_images(self) -> np.ndarray:
        path = self._folder / 'color_images.npz'
        if not path.exists():
            drives = [
                labelled_drive(COLORS + number).images
                for number in track(range(COLOR_DRIVES), 'drives for the colour histogram')
            ]
            with atomic_file(path) as scratch, scratch.open('wb') as stream:
                np.savez(stream, x=np.concatenate(drives))
        with np.load(path) as archive:
            return archive['x']

    def _drives(
        self, name: str, first: int, hours: float, colors: ColorHistogram, unseen: bool
    ) -> list[DriveRecord]:
        """Return the records of ordinary drives, rendering those that are not there yet."""
        def scores(image: np.ndarray) -> Mapping[str, float]:
            found = {one: self._judged.scores.get(one, np.inf) for one in SCORES}
            return {**found, 'colors': colors.score(image)}

        drives: list[DriveRecord] = []
        seconds = 0.0
        while seconds < hours * 3600:
            seed = first + len(drives)
            path = self._folder / name / f'{seed}.npz'
            if not path.exists():
                record = record_drive(seed, self._judged, scores, unseen_dress=unseen)
                with atomic_file(path) as scratch, scratch.open('wb') as stream:
                    np.savez(stream, alert=record.alert, ood=record.ood, **record.scores)
            with np.load(path) as archive:
                arrays = dict(archive)
            drives.append(DriveRecord(seed, arrays.pop('alert'), arrays.pop('ood'), arrays))
            seconds += drives[-1].seconds
            print(f'{name}: {seconds / 3600:.2f} of {hours:g} h', flush=True)
        return drives

    def _encounters(self, name: str, detector: Detector) -> list[dict]:
        """Return the records of one detector's encounters, running those that are missing."""
        records = []
        for kind in self._kinds:
            counted, seed = 0, 0
            while counted < self._options.encounters:
                if seed >= MOST_DRAWS * self._options.encounters:
                    print(f'{kind}: only {counted} encounters in {seed} draws', file=sys.stderr)
                    break
                record = self._encounter(name, detector, kind, seed)
                counted += Outcome(record['outcome']).counts
                seed += 1
                records.append(record)
            print(f'{name}, {kind}: {counted} encounters in {seed} draws', flush=True)
        return records

    def _encounter(self, name: str, detector: Detector, kind: str, seed: int) -> dict:
        path = self._folder / 'encounters' / name / f'{kind}_{seed}.json'
        if not path.exists():
            result = run_encounter(draw_encounter(kind, seed), detector)
            if result.image is not None:
                bgr = np.ascontiguousarray(result.image[..., ::-1])
                write_file(path.with_suffix('.png'), cv2.imencode('.png', bgr)[1].tobytes())
            write_file(path, json.dumps(result.record()).encode())
        return json.loads(path.read_text())

    def _sheet(self, name: str, records: Sequence[dict], part: str) -> None:
        """Write contact sheets of the last images: what the robot stopped for and what it hit."""
        groups = {'stopped': (Outcome.STOPPED,), 'missed': (Outcome.CONTACT, Outcome.PASSED)}
        for group, outcomes in groups.items():
            images = []
            for record in records:
                path = (self._folder / 'encounters' / name
                        / f"{record['kind']}_{record['seed']}.png")
                if Outcome(record['outcome']) in outcomes and path.exists():
                    image = cv2.imread(str(path))
                    text = f"{record['kind']} {record['end_gap']:.2f} m"
                    cv2.putText(image, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                                (255, 255, 255), 1, cv2.LINE_AA)
                    images.append(image)
            if images:
                images += [np.zeros_like(images[0])] * (-len(images) % 8)
                rows = [np.hstack(images[place:place + 8]) for place in range(0, len(images), 8)]
                path = self._folder / f'{group}_{name}_{part}.png'
                write_file(path, cv2.imencode('.png', np.vstack(rows))[1].tobytes())


def summarise_drives(drives: Sequence[DriveRecord]) -> dict[str, object]:
    """Return false stops per hour with their interval, the share of time True and the distance."""
    hours = sum(drive.seconds for drive in drives) / 3600
    stops = sum(drive.false_stops for drive in drives)
    tail = (1 - CONFIDENCE) / 2
    low = chi2.ppf(tail, 2 * stops) / 2 if stops else 0.0
    high = chi2.ppf(1 - tail, 2 * stops + 2) / 2
    lengths = np.array([drive.seconds for drive in drives])
    shares = np.array([distance_share(drive) for drive in drives])
    # Before the first verdicts the alert is True in every drive; a robot that has started counts.
    ood = sum(int(drive.ood.sum()) for drive in drives)
    images = sum(len(drive.ood) for drive in drives)
    return {
        'drives': len(drives), 'hours': round(hours, 3), 'false_stops': stops,
        'false_stops_per_hour': round(stops / hours, 3),
        'false_stops_per_hour_interval': [round(low / hours, 3), round(high / hours, 3)],
        'share_true': ood / images,
        'distance_share': float((shares * lengths).sum() / lengths.sum()),
    }


def summarise_encounters(records: Sequence[dict], kinds: Sequence[str]) -> dict[str, object]:
    """Return, for each kind and for all, how many stopped in time, and the draws without count."""
    found: dict[str, object] = {}
    for kind in (*kinds, 'all'):
        mine = [record for record in records if kind in ('all', record['kind'])]
        outcomes = Counter(record['outcome'] for record in mine)
        counted = sum(count for name, count in outcomes.items() if Outcome(name).counts)
        stopped = outcomes[Outcome.STOPPED.value]
        gaps = [r['end_gap'] for r in mine if r['outcome'] == Outcome.STOPPED.value]
        found[kind] = {
            'encounters': counted, 'stopped': stopped,
            'interval': share_interval(stopped, counted),
            'outcomes': dict(sorted(outcomes.items())),
            'median_gap': float(np.median(gaps)) if gaps else None,
        }
    return found


def share_interval(count: int, total: int) -> list[float]:
    """Return the interval of Clopper and Pearson (1934) for a share."""
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return [round(low, 4), round(high, 4)]


if __name__ == '__main__':
    sys.exit(main())
