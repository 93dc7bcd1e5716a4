"""Terminal output of the demo: a live table, and a summary at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from demo_record import Kind, Record, SegmentSummary, Summary
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

COLORS = {'OK': '#0072B2', 'SUSPECT': '#E69F00', 'OOD': '#D55E00', 'INVALID': '#D55E00'}


class Display:
    """A live table in a terminal; one line per second elsewhere."""

    PERIOD = 0.25  # seconds between updates of the table

    def __init__(self, record: Record, console: Console) -> None:
        """Create an empty display."""
        self._record = record
        self._console = console
        self._doing = ''
        self._started = time.monotonic()
        self._next = 0.0
        self._shown: dict[int, tuple[str, str]] = {}  # segment -> its newest state and reason
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def say(self, doing: str) -> None:
        """Show the current step."""
        self._doing = doing
        if self._live:
            self.refresh()
        else:
            self._console.print(f'{self._seconds:6.1f} s  {doing}', highlight=False)

    def refresh(self) -> None:
        """Update the display, if an update is due."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (self.PERIOD if self._live else 1.0)
        if self._live:
            self._live.update(self._table(), refresh=True)
        elif self._record.segments:
            self._console.print(self._line(), highlight=False, soft_wrap=True)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _line(self) -> str:
        record = self._record
        number = len(record.segments) - 1
        frames = record.frames_of(number)
        judged = ''
        if frames:
            newest = frames[-1]
            judged = (
                f'class {newest.class_name}  p {newest.p_value:.4f}  '
                f'{newest.latency_ms:.1f} ms  {len(frames)} frames  '
            )
        return (
            f'{self._seconds:6.1f} s  {record.segments[number].name:11}  {record.state:7}  '
            f'{record.reason:15}  {judged}{record.dropped} drops  ood_alert {record.alert}'
        )

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), caption=self._doing, caption_justify='left')
        for heading, side, width in (
            ('segment', 'left', 11), ('state', 'left', 7), ('reason', 'left', 15),
            ('class', 'left', 5), ('p-value', 'right', 7), ('latency', 'right', 7),
            ('frames', 'right', 6), ('drops', 'right', 5), ('alert', 'left', 5),
        ):  # fmt: skip
            table.add_column(heading, justify=side, min_width=width, no_wrap=True)
        for number in range(len(self._record.segments)):
            table.add_row(*self._row(number))
        return table

    def _row(self, number: int) -> Iterator[str | Text]:
        record = self._record
        frames = record.frames_of(number)
        newest = frames[-1] if frames else None
        is_now = number == len(record.segments) - 1
        if is_now:
            self._shown[number] = record.state, record.reason
        state, reason = self._shown.get(number, ('', ''))
        alert = record.alert if is_now else record.alert_at(record.end_of(number))
        color = COLORS.get(state, '')
        yield Text(record.segments[number].name, style='bold' if is_now else '')
        yield Text(state, style=f'bold {color}')
        yield Text(reason, style=color)
        yield newest.class_name if newest else '-'
        yield f'{newest.p_value:.4f}' if newest else '-'
        yield f'{newest.latency_ms:.1f} ms' if newest else '-'
        yield str(len(frames))
        yield str(record.dropped) if is_now else ''
        yield Text(str(alert), style=f'bold {COLORS["OOD" if alert else "OK"]}')


def print_summary(console: Console, summary: Summary) -> None:
    """Print the result of a finished run."""
    console.print()
    table = Table(
        title='Summary', title_justify='left', title_style='bold', box=None,
        padding=(0, 1, 0, 0),
    )
    table.add_column('segment')
    for heading in ('frames', 'flagged', 'ood_alert', 'relapses', 'latency'):
        table.add_column(heading, justify='left' if heading == 'ood_alert' else 'right')
    for segment in summary.segments:
        table.add_row(*_summary_row(segment))
    console.print(table)
    console.print()
    console.print(
        f'{summary.judged} of {summary.received} images judged, {summary.dropped} dropped, '
        f'{summary.lost} lost in transport; {summary.false_alarms} false alarms on digits',
        highlight=False,
    )
    for expectation in summary.expectations:
        if not expectation.met:
            console.print(
                f'[bold {COLORS["OOD"]}]not met:[/] {expectation.text} '
                f'({expectation.found})',
                highlight=False, soft_wrap=True,
            )
    if summary.passed:
        console.print(
            f'[bold {COLORS["OK"]}]every alert came when it should[/] '
            f'({len(summary.expectations)} expectations met)',
            highlight=False,
        )


def _summary_row(segment: SegmentSummary) -> Iterator[str]:
    yield segment.name
    yield str(segment.frames)
    yield '-' if segment.flagged_share is None else f'{segment.flagged_share:.1%}'
    value = segment.kind != Kind.KNOWN.value
    if segment.settled_ms is None:
        yield f'never {value}'
    elif segment.settled_ms == 0.0:
        yield f'{value} already'
    else:
        frames = f' ({segment.settled_frames} frames)' if segment.settled_frames else ''
        yield f'{value} after {segment.settled_ms:.0f} ms{frames}'
    yield str(segment.relapses)
    yield '-' if segment.latency_ms_median is None else f'{segment.latency_ms_median:.1f} ms'
