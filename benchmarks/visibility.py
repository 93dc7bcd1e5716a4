"""Measure from which distance each kind of unknown object is visible to the simulated camera.

    python benchmarks/visibility.py [--objects 25]

Objects of each kind are put on the path of generated worlds, as for an encounter, and the robot's
camera is moved along the path. An object counts as visible from the first image in which it covers
at least 0.5 % of the pixels. No detector is run. Writes docs/measured/visibility.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import track

from nav_monitor_ros.files.atomic_file import write_file
from nav_monitor_ros.sim.camera.rendering import CAMERA, Renderer
from nav_monitor_ros.sim.encounters import VISIBLE, Encounter, draw_encounter, pose_at
from nav_monitor_ros.sim.robot.footprint import gap_to
from nav_monitor_ros.sim.world.mjcf import UNKNOWN as UNKNOWN_LABEL
from nav_monitor_ros.sim.world.unknown_objects import UNKNOWN

OUTPUT = Path(__file__).resolve().parent.parent / 'docs' / 'measured' / 'visibility.json'
STEP = 5  # points of the path between two images


def main() -> None:
    """Measure all kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--objects', type=int, default=25, help='number of objects of each kind')
    count = parser.parse_args().objects
    kinds = {}
    for kind in UNKNOWN:
        gaps = [
            visible_from(draw_encounter(kind, seed)) for seed in track(range(count), kind)
        ]
        low, median = np.percentile(gaps, [10, 50])
        kinds[kind] = {'least': min(gaps), 'p10': float(low), 'median': float(median)}
    measured = {
        'objects': count, 'share': VISIBLE, 'camera': f'{CAMERA.width}x{CAMERA.height}',
        'kinds': kinds,
    }
    write_file(OUTPUT, json.dumps(measured, indent=1).encode() + b'\n')


def visible_from(encounter: Encounter) -> float:
    """Return the gap in m between robot and object when it becomes visible; 0 if it never does."""
    world = encounter.world
    assert world.unknown is not None
    with Renderer(encounter.compiled) as renderer:
        for place in range(encounter.start, len(world.path), STEP):
            pose = pose_at(world, place)
            gap = gap_to(pose, world.unknown)
            if gap <= 0:
                return 0.0
            if renderer.labels(pose).get(UNKNOWN_LABEL, 0.0) >= VISIBLE:
                return gap
    return 0.0


if __name__ == '__main__':
    main()
