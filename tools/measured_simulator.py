"""Measurements with the simulated robot (docs/measured/) as Markdown tables."""

from __future__ import annotations

from statistics import median

from measured import read, table


def faults() -> str:
    """Return the stops for each fault of a driving robot's camera."""
    measured = read('drive_faults')
    rows = []
    for name, row in measured['faults'].items():
        in_time = row['count'] - row['late'] - row['missing']
        rows.append((
            f'`{name}`', ', '.join(f'`{reason}`' for reason in row['reasons']),
            f'{in_time} of {row["count"]}', f'{median(row["seconds"]):.2f} s',
            f'{max(row["seconds"]):.2f} s', f'{row["limit_s"]:.2f} s',
            f'{max(row["metres"]):.2f} m',
        ))
    return table(
        ['fault of the camera', 'reason', 'in time', 'zero after (median)', 'longest', 'limit',
         'longest way to standstill'], rows)
