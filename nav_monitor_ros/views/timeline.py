"""A recording at a glance: state, p-value and class over time, as SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nav_monitor_ros.decision.alert_reason import State

COLUMNS = 1100  # of the drawing at most: longer recordings have several frames in one
_LEFT, _RIGHT = 132, 16  # columns beside the plots
_STATE_ROWS, _P_ROWS, _CLASS_ROW = 26, 150, 15
_MARK_ROWS = 30
_APART = 22  # columns between the texts of two marks
_CLASSES = 12  # rows of classes at most; the rest share one
_FLOOR = 1e-4  # p-values below it are drawn at it
_ORDER = (State.OK, State.SUSPECT, State.INVALID, State.OOD)  # the worst one of a column is shown
_COLOR = {
    State.OK: '#0072b2', State.SUSPECT: '#e69f00', State.INVALID: '#8a8f98', State.OOD: '#d55e00',
}
_WORDS = {
    State.OK: 'trusted', State.SUSPECT: 'suspect', State.INVALID: 'unable to judge',
    State.OOD: 'out of distribution',
}
STYLE = """
.across { overflow-x: auto; }
.timeline { width: 100%; min-width: 760px; height: auto; display: block; }
.timeline text { font: 12px system-ui, sans-serif; fill: var(--muted); }
.timeline line { stroke: var(--line); }
.timeline line.mark { stroke: #d55e00; stroke-width: 2; }
.timeline text.number { fill: #d55e00; font-weight: 600; }
.key { display: inline-block; margin: 0 18px 8px 0; color: var(--muted); font-size: 14px; }
.key i { display: inline-block; width: 14px; height: 14px; border-radius: 3px; margin-right: 6px;
  vertical-align: -2px; }
"""


@dataclass(frozen=True)
class Tick:
    """One moment of a recording."""

    seconds: float  # since its beginning
    state: State
    reason: str
    p_value: float  # NaN where nothing was judged
    class_name: str  # '' where nothing was judged
    threshold: float = math.nan  # p-values at or below it are out-of-distribution


@dataclass(frozen=True)
class Mark:
    """A moment that stands out."""

    seconds: float
    title: str  # shown where the mouse rests
    text: str = ''  # beside the mark
    anchor: str = ''  # the id of an element of the page that tells more


def timeline_html(
    ticks: Sequence[Tick], marks: Sequence[Mark] = (), *, label: str = '', end: float = 0.0
) -> str:
    """Return a legend and a drawing of all moments, HTML.

    Args:
        ticks: In their order; may be empty.
        marks: Moments that stand out, drawn above the state.
        label: What they are.
        end: Seconds that are drawn at least, so that two drawings can be compared.
    """
    if not ticks:
        return '<p>No image was read.</p>'
    end = max(end, *(tick.seconds for tick in ticks))
    columns = _columns(ticks, end)
    names = _names(ticks)
    height = 30 + _STATE_ROWS + 26 + _P_ROWS + 22 + len(names) * _CLASS_ROW + 8
    height += _MARK_ROWS * bool(label)
    width = _LEFT + COLUMNS + _RIGHT
    parts = [
        f'<svg class="timeline" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="state, p-value and class over time">'
    ]
    top = 8
    if label:
        parts += _marks(marks, label, top, end)
        top += _MARK_ROWS
    parts += _label(top + 17, 'state')
    parts += [
        f'<rect x="{x}" y="{top}" width="{w}" height="{_STATE_ROWS}" fill="{_COLOR[worst]}">'
        f'<title>{escape(told)}</title></rect>'
        for x, w, worst, told in _states(columns, end)
    ]
    top += _STATE_ROWS + 20
    parts += _p_values(ticks, columns, top, end)
    top += _P_ROWS + 16
    parts += _classes(columns, names, top, end)
    top += len(names) * _CLASS_ROW + 6
    parts += _seconds(top, end)
    legend = ''.join(
        f'<span class="key"><i style="background:{_COLOR[state]}"></i>{_WORDS[state]}</span>'
        for state in _ORDER
    )
    return f'{legend}<div class="across">{"".join(parts)}</svg></div>'


def _x(seconds: float, end: float) -> float:
    return round(_LEFT + COLUMNS * (seconds / end if end else 0.0), 1)


def _label(y: float, text: str) -> list[str]:
    return [f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{escape(text)}</text>']


def _marks(marks: Sequence[Mark], label: str, top: int, end: float) -> list[str]:
    """Draw marks, and above them the texts for which there is room."""
    parts, last = _label(top + 23, label), -math.inf
    for mark in marks:
        x = _x(mark.seconds, end)
        shown = f'<line class="mark" x1="{x}" x2="{x}" y1="{top + 13}" y2="{top + 27}">'
        shown += f'<title>{escape(mark.title)}</title></line>'
        if mark.text and x - last >= _APART:
            # A line is thin; fingers and mice hit what surrounds it.
            shown += f'<rect x="{x - 5}" y="{top}" width="14" height="27" fill="transparent"/>'
            shown += f'<text class="number" x="{x - 3}" y="{top + 10}">{escape(mark.text)}</text>'
            last = x
        parts.append(f'<a href="#{mark.anchor}">{shown}</a>' if mark.anchor else shown)
    return parts


def _columns(ticks: Sequence[Tick], end: float) -> list[list[Tick]]:
    """Return the moments in at most ``COLUMNS`` groups of equal time."""
    groups: dict[int, list[Tick]] = {}
    for tick in ticks:
        groups.setdefault(int(COLUMNS * tick.seconds / end) if end else 0, []).append(tick)
    return [groups[key] for key in sorted(groups)]


def _states(
    columns: Sequence[list[Tick]], end: float
) -> list[tuple[float, float, State, str]]:
    """Return x, width, state and text of every stretch of one state."""
    stretches: list[tuple[float, State, str]] = []
    for column in columns:
        worst = max(column, key=lambda tick: _ORDER.index(tick.state))
        if not stretches or stretches[-1][1:] != (worst.state, worst.reason):
            stretches.append((column[0].seconds, worst.state, worst.reason))
    stops = [begin for begin, _, _ in stretches[1:]] + [end]
    return [
        (
            _x(begin, end), max(1.0, round(_x(stop, end) - _x(begin, end), 1)), state,
            f'{reason}: {begin:.2f} s to {stop:.2f} s',
        )
        for (begin, state, reason), stop in zip(stretches, stops, strict=True)
    ]


def _p_values(
    ticks: Sequence[Tick], columns: Sequence[list[Tick]], top: int, end: float
) -> list[str]:
    def y(p_value: float) -> float:
        share = math.log10(max(p_value, _FLOOR)) / math.log10(_FLOOR)
        return round(top + _P_ROWS * share, 1)

    parts = _label(top + _P_ROWS // 8 + 4, 'p-value')
    for power in range(round(-math.log10(_FLOOR)) + 1):
        level = 10.0**-power
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + COLUMNS}" y1="{y(level)}" y2="{y(level)}"/>')
        parts += _label(y(level) + 4, f'{level:g}')
    for column in columns:
        judged = [tick for tick in column if not math.isnan(tick.p_value)]
        if judged:
            low = min(judged, key=lambda tick: tick.p_value)
            flagged = low.p_value <= low.threshold
            parts.append(
                f'<circle cx="{_x(low.seconds, end)}" cy="{y(low.p_value)}" r="2.4" '
                f'fill="{_COLOR[State.OOD if flagged else State.OK]}"><title>'
                f'{low.seconds:.2f} s: {escape(low.class_name)}, p = {low.p_value:.3g}'
                '</title></circle>'
            )
    return parts


def _names(ticks: Sequence[Tick]) -> list[str]:
    counts = Counter(tick.class_name for tick in ticks if tick.class_name)
    names = [name for name, _ in counts.most_common()]
    return names if len(names) <= _CLASSES else [*names[: _CLASSES - 1], 'others']


def _classes(
    columns: Sequence[list[Tick]], names: Sequence[str], top: int, end: float
) -> list[str]:
    parts = []
    rows = {name: top + number * _CLASS_ROW for number, name in enumerate(names)}
    for name, row in rows.items():
        shown = name if len(name) <= 16 else name[:15] + '…'
        parts.append(
            f'<text x="{_LEFT - 8}" y="{row + 11}" text-anchor="end">{escape(shown)}'
            f'<title>{escape(name)}</title></text>'
        )
    for column in columns:
        for name in {tick.class_name for tick in column if tick.class_name}:
            row = rows.get(name, rows.get('others', top))
            parts.append(
                f'<rect x="{_x(column[0].seconds, end)}" y="{row + 3}" width="2.5" height="9" '
                'fill="#7d8590"/>'
            )
    return parts


def _seconds(top: int, end: float) -> list[str]:
    step = next(
        (s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800) if end / s <= 12),
        max(1.0, end / 12),
    )
    return [
        f'<text x="{_x(number * step, end)}" y="{top + 14}" text-anchor="middle">'
        f'{number * step:g} s</text>'
        for number in range(int(end / step) + 1)
    ]
