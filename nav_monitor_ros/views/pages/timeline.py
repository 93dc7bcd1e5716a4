"""Timeline of a recording: state, p-value and class over time, as a drawing on a page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from nav_monitor_ros.decision.alert.reason import State
from nav_monitor_ros.views.pages.rendering import render_fragment

COLUMNS = 1100  # largest number of columns; longer recordings have several frames per column
_LEFT, _RIGHT = 132, 16  # columns next to the plots
_STATE_ROWS, _P_ROWS, _CLASS_ROW = 26, 150, 15
_MARK_ROWS = 30
_APART = 22  # columns between the labels of two marks
_CLASSES = 12  # rows of classes at most; the rest share one
_NAME_LENGTH = 16  # characters of a class name that are drawn
_FLOOR = 1e-4  # smaller p-values are clipped
_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)  # seconds
_ORDER = (State.OK, State.SUSPECT, State.INVALID, State.OOD)  # the worst one of a column is shown
_WORDS = {
    State.OK: 'trusted', State.SUSPECT: 'suspect', State.INVALID: 'unable to judge',
    State.OOD: 'out of distribution',
}


@dataclass(frozen=True)
class Tick:
    """One moment of a recording."""

    seconds: float  # seconds since the start
    state: State
    reason: str
    p_value: float  # NaN if the image was not judged
    class_name: str  # '' if the image was not judged
    threshold: float = math.nan  # p-values at or below it are out-of-distribution


@dataclass(frozen=True)
class Mark:
    """A marked moment."""

    seconds: float
    title: str  # tooltip
    text: str = ''  # label next to the mark
    anchor: str = ''  # id of a page element with details


@dataclass(frozen=True)
class _Text:
    x: float
    y: float
    text: str
    anchor: str = 'end'
    title: str = ''


@dataclass(frozen=True)
class _Line:
    x1: float
    x2: float
    y: float


@dataclass(frozen=True)
class _Bar:
    kind: str  # CSS class of its colour
    x: float
    y: float
    width: float
    height: float
    title: str = ''


@dataclass(frozen=True)
class _Dot:
    kind: str  # CSS class of its colour
    x: float
    y: float
    title: str


@dataclass(frozen=True)
class _DrawnMark:
    x: float
    top: float
    title: str
    text: str
    anchor: str


@dataclass
class _Drawing:
    """Elements that the template draws, in pixels of the drawing."""

    end: float  # time at the right end, seconds
    texts: list[_Text] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)
    bars: list[_Bar] = field(default_factory=list)
    dots: list[_Dot] = field(default_factory=list)
    marks: list[_DrawnMark] = field(default_factory=list)

    def x(self, seconds: float) -> float:
        """Return the column of a moment."""
        return round(_LEFT + COLUMNS * (seconds / self.end if self.end else 0.0), 1)

    def label(self, y: float, text: str) -> None:
        """Add a text to the left of the plots."""
        self.texts.append(_Text(_LEFT - 8, y, text))


def timeline(
    ticks: Sequence[Tick], marks: Sequence[Mark] = (), *, label: str = '', end: float = 0.0
) -> Markup:
    """Return a legend and a drawing of all moments, for a page with ``timeline.css``.

    Args:
        ticks: Moments in order; without any, a sentence is shown.
        marks: Marked moments, drawn above the state.
        label: Name of the marks, for the legend.
        end: Smallest time span, seconds, so that two drawings can be compared.
    """
    if not ticks:
        return render_fragment('timeline.html', drawing=None)
    drawing = _Drawing(max(end, *(tick.seconds for tick in ticks)))
    columns = _columns(ticks, drawing.end)
    names = _names(ticks)
    top = 8
    if label:
        _draw_marks(drawing, marks, label, top)
        top += _MARK_ROWS
    drawing.label(top + 17, 'state')
    _draw_states(drawing, columns, top)
    top += _STATE_ROWS + 20
    _draw_p_values(drawing, columns, top)
    top += _P_ROWS + 16
    _draw_classes(drawing, columns, names, top)
    top += len(names) * _CLASS_ROW + 6
    _draw_seconds(drawing, top)
    return render_fragment(
        'timeline.html', width=_LEFT + COLUMNS + _RIGHT, height=top + 28,
        states=[(_kind(state), _WORDS[state]) for state in _ORDER], drawing=drawing,
    )


def _kind(state: State) -> str:
    return state.name.lower()


def _draw_marks(drawing: _Drawing, marks: Sequence[Mark], label: str, top: int) -> None:
    """Draw marks, and above them the labels that fit."""
    drawing.label(top + 23, label)
    last = -math.inf
    for mark in marks:
        x = drawing.x(mark.seconds)
        text = mark.text if x - last >= _APART else ''
        last = x if text else last
        drawing.marks.append(_DrawnMark(x, top, mark.title, text, mark.anchor))


def _columns(ticks: Sequence[Tick], end: float) -> list[list[Tick]]:
    """Return the moments in at most ``COLUMNS`` groups of equal time."""
    groups: dict[int, list[Tick]] = {}
    for tick in ticks:
        groups.setdefault(int(COLUMNS * tick.seconds / end) if end else 0, []).append(tick)
    return [groups[key] for key in sorted(groups)]


def _draw_states(drawing: _Drawing, columns: Sequence[list[Tick]], top: int) -> None:
    """Draw every stretch of one state as a bar."""
    stretches: list[tuple[float, State, str]] = []
    for column in columns:
        worst = max(column, key=lambda tick: _ORDER.index(tick.state))
        if not stretches or stretches[-1][1:] != (worst.state, worst.reason):
            stretches.append((column[0].seconds, worst.state, worst.reason))
    stops = [begin for begin, _, _ in stretches[1:]] + [drawing.end]
    for (begin, state, reason), stop in zip(stretches, stops, strict=True):
        left = drawing.x(begin)
        drawing.bars.append(_Bar(
            _kind(state), left, top, max(1.0, round(drawing.x(stop) - left, 1)), _STATE_ROWS,
            f'{reason}: {begin:.2f} s to {stop:.2f} s',
        ))


def _draw_p_values(drawing: _Drawing, columns: Sequence[list[Tick]], top: int) -> None:
    def y(p_value: float) -> float:
        share = math.log10(max(p_value, _FLOOR)) / math.log10(_FLOOR)
        return round(top + _P_ROWS * share, 1)

    drawing.label(top + _P_ROWS // 8 + 4, 'p-value')
    for power in range(round(-math.log10(_FLOOR)) + 1):
        level = 10.0**-power
        drawing.lines.append(_Line(_LEFT, _LEFT + COLUMNS, y(level)))
        drawing.label(y(level) + 4, f'{level:g}')
    for column in columns:
        judged = [tick for tick in column if not math.isnan(tick.p_value)]
        if judged:
            low = min(judged, key=lambda tick: tick.p_value)
            state = State.OOD if low.p_value <= low.threshold else State.OK
            drawing.dots.append(_Dot(
                _kind(state), drawing.x(low.seconds), y(low.p_value),
                f'{low.seconds:.2f} s: {low.class_name}, p = {low.p_value:.3g}',
            ))


def _names(ticks: Sequence[Tick]) -> list[str]:
    counts = Counter(tick.class_name for tick in ticks if tick.class_name)
    names = [name for name, _ in counts.most_common()]
    return names if len(names) <= _CLASSES else [*names[: _CLASSES - 1], 'others']


def _draw_classes(
    drawing: _Drawing, columns: Sequence[list[Tick]], names: Sequence[str], top: int
) -> None:
    rows = {name: top + number * _CLASS_ROW for number, name in enumerate(names)}
    for name, row in rows.items():
        shown = name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + '…'
        drawing.texts.append(_Text(_LEFT - 8, row + 11, shown, title=name))
    for column in columns:
        for name in sorted({tick.class_name for tick in column if tick.class_name}):
            row = rows.get(name, rows.get('others', top))
            drawing.bars.append(_Bar('class', drawing.x(column[0].seconds), row + 3, 2.5, 9))


def _draw_seconds(drawing: _Drawing, top: int) -> None:
    end = drawing.end
    step = next((step for step in _TIME_STEPS if end / step <= 12), max(1.0, end / 12))
    for number in range(int(end / step) + 1):
        drawing.texts.append(_Text(
            drawing.x(number * step), top + 14, f'{number * step:g} s', anchor='middle'))
