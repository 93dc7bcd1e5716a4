#!/usr/bin/env python3
"""Render labelled drives, on which the network of the bundle ``corridor`` is trained.

    python tools/make_drives.py --drives 300 --output drives.npz
    nav_monitor train corridor --data 'drives.npz?group=drive' --output bundles/corridor

Finished drives are kept in a folder beside the output, so that an interrupted run continues. The
drives contain no unknown objects.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.sim.drives import LabelledImages, joined, labelled_drive


def main() -> int:
    """Render the drives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--drives', type=int, default=300, help='number of drives')
    parser.add_argument('--first', type=int, default=0, help='seed of the first drive')
    parser.add_argument('--output', type=Path, required=True, help='.npz file with x, y and drive')
    options = parser.parse_args()
    try:
        _make(options)
    except NavMonitorError as error:
        print(f'make_drives: {error}', file=sys.stderr)
        return 2
    return 0


def _make(options: argparse.Namespace) -> None:
    folder = options.output.with_suffix('.drives')
    drives = []
    started = time.monotonic()
    for seed in range(options.first, options.first + options.drives):
        path = folder / f'{seed}.npz'
        if not path.exists():
            _save(path, labelled_drive(seed))
        with np.load(path) as archive:
            drives.append(LabelledImages(
                archive['x'], archive['y'], archive['drive'], archive['time']))
        if len(drives) % 10 == 0:
            print(f'{len(drives)} of {options.drives} drives, '
                  f'{time.monotonic() - started:.0f} s', flush=True)
    whole = joined(drives)
    _save(options.output, whole)
    print(f'{len(whole.labels)} images: {whole.counts()}')


def _save(path: Path, images: LabelledImages) -> None:
    with atomic_file(path) as scratch, scratch.open('wb') as stream:
        np.savez(stream, x=images.images, y=images.labels, drive=images.drives, time=images.times)


if __name__ == '__main__':
    sys.exit(main())
