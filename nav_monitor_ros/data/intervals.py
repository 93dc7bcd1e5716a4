"""Classes and groups of a recording's images, by their receive times."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.errors import NavMonitorError

COLUMNS = ('start', 'end', 'class')
GROUP_SECONDS = 1.0  # seconds, length of a group of similar images of a recording
_UNIX = 100_000_000  # seconds: later times are since 1970, earlier ones since the first image
_SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Interval:
    """Interval of a recording whose images have one class."""

    start_ns: int  # nanoseconds since 1970
    end_ns: int  # nanoseconds, exclusive
    name: str
    line: int  # line of the file


def label_by_intervals(source: ImageSource, table: Path) -> ImageSource:
    """Return the images of a recording that lie in an interval, labelled with its class.

    Args:
        source: Images with ascending receive times.
        table: A CSV with the columns start, end and class, with or without that heading: seconds
            since the source's first image, or since 1970 (recognised by their size); the end is
            not part of the interval. Classes are either all names or all class numbers of the
            network.

    Returns:
        The images; each interval is a group.

    Raises:
        NavMonitorError: The file cannot be read, a line is not an interval, two intervals overlap,
            or no image lies in any of them of them.
    """
    times = source.received_ns
    assert times is not None  # of a recording
    first = int(times[0]) if len(times) else 0
    intervals = sorted(_read(table, first), key=lambda interval: interval.start_ns)
    for one, other in zip(intervals, intervals[1:], strict=False):
        if other.start_ns < one.end_ns:
            raise NavMonitorError(
                f'{table}, line {other.line}: overlaps with the interval of line {one.line}; an '
                'image can only have one class'
            )
    starts = np.array([interval.start_ns for interval in intervals], np.int64)
    ends = np.array([interval.end_ns for interval in intervals], np.int64)
    which = np.searchsorted(starts, times, 'right') - 1
    inside = np.flatnonzero((which >= 0) & (times < ends[np.maximum(which, 0)]))
    if not len(inside):
        raise NavMonitorError(
            f'{table}: none of the {len(times)} images of {source.name} lies in an interval; they '
            f'were received from {first / _SECOND:.3f} to {int(times[-1]) / _SECOND:.3f} s since '
            f'1970, over {(int(times[-1]) - first) / _SECOND:.3f} s'
        )
    left_out = len(times) - len(inside)
    notes = (
        f'{source.name}: {left_out} of {len(times)} images are in no interval of {table} and are '
        'not used',
    ) if left_out else ()
    names = [interval.name for interval in intervals]
    numbered = all(name.isdecimal() and len(name) < 10 for name in names)
    classes = tuple(sorted(set(names)))
    numbers = np.array([int(name) if numbered else classes.index(name) for name in names], np.int64)
    return replace(
        source.subset(inside), own_labels=numbers[which[inside]],
        class_names=None if numbered else classes, groups=which[inside],
        notes=(*source.notes, *notes),
    )


def group_by_time(source: ImageSource, seconds: float) -> ImageSource:
    """Return a recording whose images are grouped by time, since neighbours are similar.

    Args:
        source: Images with receive times; existing groups are subdivided.
        seconds: Length of a group; 0 if each image counts as independent.
    """
    times = source.received_ns
    if not seconds or times is None or not len(times):
        return replace(source, groups=None)
    blocks = (times - times[0]) // int(seconds * _SECOND)
    given = np.zeros(len(times), np.int64) if source.groups is None else source.groups
    pairs = np.stack([given, blocks], axis=1)
    _, numbers = np.unique(pairs, axis=0, return_inverse=True)
    return replace(source, groups=numbers.reshape(-1))


def _read(table: Path, first_ns: int) -> list[Interval]:
    try:
        with table.open(encoding='utf-8-sig', newline='') as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise NavMonitorError(f'labels {table} are unreadable: {reason}') from None
    intervals = []
    for line, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (line == 1 and tuple(c.lower() for c in cells) == COLUMNS):
            continue
        if len(cells) != len(COLUMNS) or not cells[2]:
            raise NavMonitorError(
                f'{table}, line {line}: not {",".join(COLUMNS)} but {",".join(cells)[:100]!r}'
            )
        start, end = (_nanoseconds(table, line, cell, first_ns) for cell in cells[:2])
        if end <= start:
            raise NavMonitorError(f'{table}, line {line}: ends at {cells[1]}, not after its start')
        intervals.append(Interval(start, end, cells[2], line))
    if not intervals:
        raise NavMonitorError(f'{table} holds no intervals; write lines of {",".join(COLUMNS)}')
    return intervals


def _nanoseconds(table: Path, line: int, text: str, first_ns: int) -> int:
    try:
        seconds = Decimal(text)  # a float cannot represent nanoseconds since 1970
        whole = int(seconds * _SECOND) if abs(seconds) < 1 << 62 else -1
    except (ArithmeticError, ValueError):
        whole = -1
    if not 0 <= whole < 1 << 62:
        raise NavMonitorError(
            f"{table}, line {line}: '{text[:100]}' is not a time; write seconds since the first "
            'image, or since 1970'
        )
    return whole if whole >= _UNIX * _SECOND else first_ns + whole
