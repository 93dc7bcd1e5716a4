"""Measurements in the simulator (docs/simulator.md) as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from measured import percent, read, table
from measured_safety import seconds

FAULTS = {
    'dark': 'the image is black',
    'damaged': 'the data of the image is cut off',
    'silent': 'no image arrives any more',
    'frozen': 'the same image is repeated',
    'slow': 'the rate falls from 15 to 3 Hz',
}
KINDS = {'drop_off': 'drop-off', 'fallen_sign': 'fallen sign', 'robot': 'another robot'}
DETECTORS = {
    'monitor': 'the monitor', 'three_in_a_row': 'three flagged images in a row', 'knn': '`knn`',
    'energy': '`energy`', 'msp': '`msp`', 'colors': 'colour histogram', 'none': 'no monitor',
}


def drive_faults() -> str:
    """Return how fast the robot stopped for each fault of its camera."""
    return table(
        ['fault', 'reason', 'stopped in time', 'zero at the base after: median', 'longest',
         'limit', 'longest way to standstill'],
        [
            (
                FAULTS[name], ', '.join(f'`{reason}`' for reason in row['reasons']),
                f'{row["count"] - row["late"] - row["missing"]} of {row["count"]}',
                seconds(median(row['seconds'])), seconds(max(row['seconds'])),
                seconds(row['limit_s']), f'{max(row["metres"]):.2f} m',
            )
            for name, row in read('drive_faults')['faults'].items()
        ],
    )


def ordinary_drives() -> str:
    """Return false stops, the share of time True and the distance, without unknown objects."""
    summary = read('closed_loop_development')
    rows = {'known objects as in training': 'ordinary', 'in unseen dress': 'unseen_dress'}
    return table(
        ['drives', 'hours', 'false stops', 'per hour (95 % interval)', 'alert True',
         'distance covered'],
        [(text, *_driving(summary[key])) for text, key in rows.items()],
    )


def encounters() -> str:
    """Return how many robots stopped before contact, by kind of object and detector."""
    parts = [read(f'closed_loop_{part}')['encounters'] for part in ('development', 'sealed')]
    names = [name for name in DETECTORS if name in parts[0]]
    return table(
        ['object', *(DETECTORS[name] for name in names), '95 % interval of the monitor'],
        [
            (KINDS.get(kind, kind) + sealed, *(_stopped(part[name][kind]) for name in names),
             _interval(part['monitor'][kind]))
            for part, sealed in zip(parts, ('', ' (sealed)'), strict=True)
            for kind in part['monitor']
            if kind != 'all'
        ],
    )


def _driving(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = row['false_stops_per_hour_interval']
    return (
        f'{row["hours"]:.1f}', str(row['false_stops']),
        f'{row["false_stops_per_hour"]:.2f} ({low:.2f} to {high:.2f})',
        f'{percent(row["share_true"])} %', f'{percent(row["distance_share"], 1)} %',
    )


def _stopped(cell: Mapping[str, Any]) -> str:
    return f'{cell["stopped"]} of {cell["encounters"]}'


def _interval(cell: Mapping[str, Any]) -> str:
    low, high = cell['interval']
    return f'{percent(low, 0)} to {percent(high, 0)} %'
