"""Measurements in the simulator (docs/simulator.md) as Markdown tables."""

from __future__ import annotations

from statistics import median

from measured import read, table
from measured_safety import seconds

FAULTS = {
    'dark': 'the image is black',
    'damaged': 'the data of the image is cut off',
    'silent': 'no image arrives any more',
    'frozen': 'the same image is repeated',
    'slow': 'the rate falls from 15 to 3 Hz',
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
