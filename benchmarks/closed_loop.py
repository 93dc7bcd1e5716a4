"""Measure contact or no contact: a simulated robot, its camera and a monitor, in lock-step.

    python benchmarks/closed_loop.py --bundle corridor --output DIR [--encounters 25] [--hours 10]
    python benchmarks/closed_loop.py --bundle corridor --output DIR --sealed

The kinds of unknown objects are those for development in closed_loop_kinds.yaml; ``--sealed`` runs
the sealed ones, once, at the end. Definitions: docs/simulator.md. Every drive and every encounter
is a file in DIR, so that an interrupted run continues; DIR/summary_*.json, stopped_*.png and
missed_*.png are written at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from functools import cached_property, partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from scipy.stats import beta, chi2

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.shipped import find_bundle
from nav_monitor_ros.decision.alert.state_machine import AlertRules
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import atomic_file, write_file
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.sim.detectors import ColorDetector, ColorHistogram, Detector, NoDetector
from nav_monitor_ros.sim.drives import labelled_drive
from nav_monitor_ros.sim.encounters import EncounterRuns, Outcome, draw_encounter
from nav_monitor_ros.sim.monitor_detectors import (
    MonitorDetector,
    ScoreDetector,
    SharedObservations,
)
from nav_monitor_ros.sim.ordinary_drives import (
    DriveRecord,
    distance_share,
    record_drive,
    threshold_for,
)

MEASURED = Path(__file__).resolve().parent.parent / 'docs' / 'measured'
KINDS = Path(__file__).with_name('closed_loop_kinds.yaml')
# Seeds of ordinary drives, of drives with known objects in unseen dress, and of the drives that
# the colour histogram knows; training uses those from 0 on.
ORDINARY, UNSEEN_DRESS, COLORS = 1_000_000, 2_000_000, 3_000_000
COLOR_DRIVES = 40
SCORES = ('msp', 'energy', 'knn')
DETECTORS = ('monitor', 'none', 'three_in_a_row', 'colors', *SCORES)
MOST_DRAWS = 10  # for each encounter that counts
CONFIDENCE = 0.95


def main() -> int:
    """Run or continue the measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bundle', default='corridor')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR')
    parser.add_argument('--encounters', type=int, default=25, help='of each kind')
    parser.add_argument('--hours', type=float, default=10.0, help='of ordinary driving')
    parser.add_argument('--sealed', action='store_true', help='run the sealed kinds')
    parser.add_argument(
        '--document', action='store_true', help='write the summary to docs/measured/ as well')
    parser.add_argument('--detectors', default='', help='comma-separated (default: all)')
    parser.add_argument(
        '--jobs', type=int, default=len(os.sched_getaffinity(0)),
        help='processes (default: one for each core)')
    options = parser.parse_args()
    # Each process renders and judges with one thread.
    os.environ['LP_NUM_THREADS'] = '1'
    try:
        Measurement(options).run()
    except NavMonitorError as error:
        print(f'closed_loop: {error}', file=sys.stderr)
        return 2
    return 0


class Worker:
    """The tasks of one process, which all write their results to files."""

    def __init__(self, bundle: str, folder: Path) -> None:
        """Load the monitor."""
        self._folder = folder
        self._monitor = Monitor(load_bundle(bundle), also=list(SCORES))
        self._shared = SharedObservations(self._monitor)

    @cached_property
    def _colors(self) -> ColorHistogram:
        with np.load(color_images(self._folder)) as archive:
            return ColorHistogram(archive['x'])

    def drive(self, seed: int, path: Path, unseen_dress: bool) -> None:
        """Record an ordinary drive."""
        judged, colors = MonitorDetector(self._monitor), self._colors

        def scores(image: np.ndarray) -> Mapping[str, float]:
            found = {one: judged.scores.get(one, np.inf) for one in SCORES}
            return {**found, 'colors': colors.score(image)}

        record = record_drive(seed, judged, scores, unseen_dress=unseen_dress)
        with atomic_file(path) as scratch, scratch.open('wb') as stream:
            np.savez_compressed(stream, alert=record.alert, ood=record.ood, **record.scores)

    def encounter(
        self, kind: str, seed: int, paths: Mapping[str, Path], thresholds: Mapping[str, float]
    ) -> None:
        """Run one encounter with several detectors.

        Args:
            kind: Of the object.
            seed: Of the encounter.
            paths: Detector -> file of its result.
            thresholds: Score -> threshold of its detector.
        """
        with closing(EncounterRuns(draw_encounter(kind, seed))) as runs:
            for name, path in paths.items():
                result = runs.run(self._detector(name, thresholds))
                if result.image is not None:
                    bgr = np.ascontiguousarray(result.image[..., ::-1])
                    write_file(path.with_suffix('.png'), cv2.imencode('.png', bgr)[1].tobytes())
                write_file(path, json.dumps(result.record()).encode())
        self._shared.forget()

    def _detector(self, name: str, thresholds: Mapping[str, float]) -> Detector:
        if name == 'none':
            return NoDetector()
        if name == 'colors':
            return ColorDetector(self._colors, thresholds[name])
        if name in SCORES:
            return ScoreDetector(self._monitor, name, thresholds[name], self._shared)
        rules = AlertRules(evidence='k_of_n') if name == 'three_in_a_row' else None
        return MonitorDetector(self._monitor, rules, self._shared)


_worker: Worker | None = None  # of this process


def start_worker(bundle: str, folder: Path) -> None:
    """Prepare this process for ``in_worker``."""
    global _worker
    _worker = Worker(bundle, folder)


def in_worker(task: str, *arguments: Any) -> None:
    """Run a method of this process's ``Worker``."""
    getattr(_worker, task)(*arguments)


def color_images(folder: Path) -> Path:
    """Return the file with the images that the colour histogram knows."""
    return folder / 'color_images.npz'


class Measurement:
    """The measurement in one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Check that the folder belongs to the bundle."""
        self._options = options
        self._folder: Path = options.output
        split = yaml.safe_load(KINDS.read_text(encoding='utf-8'))
        self._kinds: list[str] = split['sealed' if options.sealed else 'development']
        self._names = [name for name in options.detectors.split(',') if name] or list(DETECTORS)
        description = (find_bundle(options.bundle) / 'bundle.yaml').read_bytes()
        settings = json.dumps({'bundle': hashlib.sha256(description).hexdigest()}).encode()
        path = self._folder / 'settings.json'
        if path.exists() and path.read_bytes() != settings:
            raise NavMonitorError(f'{self._folder} holds results of another bundle')
        write_file(path, settings)

    def run(self) -> None:
        """Run everything that is not there yet, and write the summary."""
        self._write_color_images()
        with ProcessPoolExecutor(
            self._options.jobs, get_context('spawn'), start_worker,
            (self._options.bundle, self._folder),
        ) as pool:
            ordinary = self._drives(pool, 'ordinary', ORDINARY, self._options.hours)
            dressed = self._drives(pool, 'unseen_dress', UNSEEN_DRESS, self._options.hours / 4)
            allowed = sum(drive.false_stops for drive in ordinary)
            thresholds = {
                name: threshold_for([drive.scores[name] for drive in ordinary], allowed)
                for name in (*SCORES, 'colors')
            }
            results = self._encounters(pool, thresholds)
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
        content = json.dumps(summary, indent=1).encode() + b'\n'
        write_file(self._folder / f'summary_{part}.json', content)
        if self._options.document:
            write_file(MEASURED / f'closed_loop_{part}.json', content)
        for name, records in results.items():
            self._sheet(name, records, part)
        print(json.dumps(summary, indent=1))

    def _write_color_images(self) -> None:
        path = color_images(self._folder)
        if path.exists():
            return
        with ProcessPoolExecutor(self._options.jobs, get_context('spawn')) as pool:
            drives = pool.map(labelled_drive, range(COLORS, COLORS + COLOR_DRIVES))
            images = [drive.images for drive in drives]
        with atomic_file(path) as scratch, scratch.open('wb') as stream:
            np.savez(stream, x=np.concatenate(images))

    def _drives(
        self, pool: ProcessPoolExecutor, name: str, first: int, hours: float
    ) -> list[DriveRecord]:
        """Return the records of ordinary drives, recording those that are not there yet."""
        def path_of(seed: int) -> Path:
            return self._folder / name / f'{seed}.npz'

        def task(seed: int) -> Task | None:
            path = path_of(seed)
            if path.exists():
                return None
            return partial(in_worker, 'drive', seed, path, name == 'unseen_dress')

        drives: list[DriveRecord] = []
        seconds = 0.0
        seeds = count(first)
        for seed in ahead(pool, seeds, task, self._options.jobs):
            with np.load(path_of(seed)) as archive:
                arrays = dict(archive)
            drives.append(DriveRecord(seed, arrays.pop('alert'), arrays.pop('ood'), arrays))
            seconds += drives[-1].seconds
            print(f'{name}: {seconds / 3600:.2f} of {hours:g} h', flush=True)
            if seconds >= hours * 3600:
                break
        return drives

    def _encounters(
        self, pool: ProcessPoolExecutor, thresholds: Mapping[str, float]
    ) -> dict[str, list[dict]]:
        """Return the records of each detector's encounters, running those that are missing."""
        results: dict[str, list[dict]] = {name: [] for name in self._names}
        for kind in self._kinds:
            counted = dict.fromkeys(self._names, 0)

            def task(
                seed: int, kind: str = kind, counted: Mapping[str, int] = counted
            ) -> Task | None:
                missing = {
                    name: path for name in self._names
                    if counted[name] < self._options.encounters
                    and not (path := self._path(name, kind, seed)).exists()
                }
                if not missing:
                    return None
                return partial(in_worker, 'encounter', kind, seed, missing, thresholds)

            seeds = iter(range(MOST_DRAWS * self._options.encounters))
            for seed in ahead(pool, seeds, task, self._options.jobs):
                for name in self._names:
                    if counted[name] < self._options.encounters:
                        record = json.loads(self._path(name, kind, seed).read_text())
                        counted[name] += Outcome(record['outcome']).counts
                        results[name].append(record)
                if min(counted.values()) >= self._options.encounters:
                    break
            print(f'{kind}: {counted} encounters in {seed + 1} draws', flush=True)
        return results

    def _path(self, name: str, kind: str, seed: int) -> Path:
        return self._folder / 'encounters' / name / f'{kind}_{seed}.json'

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


Task = Callable[[], None]


def ahead(
    pool: ProcessPoolExecutor, seeds: Iterator[int], task: Callable[[int], Task | None], jobs: int
) -> Iterator[int]:
    """Yield seeds in order, each once its task is done, while those of the next ones run.

    Args:
        pool: Runs the tasks.
        seeds: Of the tasks.
        task: Returns what is to be done for a seed; None if nothing is left to do.
        jobs: Tasks that run at the same time.
    """
    running: deque[tuple[int, Future | None]] = deque()

    def add() -> None:
        for seed in seeds:
            todo = task(seed)
            running.append((seed, None if todo is None else pool.submit(todo)))
            return

    try:
        for _ in range(jobs + 1):
            add()
        while running:
            seed, future = running.popleft()
            if future is not None:
                future.result()
            yield seed
            add()
    finally:
        for _, future in running:
            if future is not None:
                future.cancel()


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
