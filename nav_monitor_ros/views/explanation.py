"""Explanatory parts of the overlay: bit patterns, scores and neurons."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from nav_monitor_ros.decision.verdict import Explanation, Neuron, Verdict
from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import (
    BACKGROUND,
    BLUE,
    FAINT,
    MUTED,
    PANEL,
    SKY,
    VERMILLION,
    WHITE,
    Color,
    paint,
)

DECADES = 5  # range of the p-value bars, powers of ten
LARGEST_Z = 15.0  # range of the z-score bars, standard deviations

_ON, _OFF, _UNMONITORED = (200, 204, 212), (66, 70, 79), (36, 39, 44)
_TURNED_ON, _TURNED_OFF = VERMILLION, SKY
_KIND_ROWS = 56.0  # rows of the kind of evidence
_LARGEST_CELL, _SMALLEST_FRAMED = 14, 5  # pixels of a neuron's cell

# Contents of a cell of the bit grid.
_SPRITE_OFF, _SPRITE_ON, _SPRITE_UNMONITORED = 0, 1, 2
_SPRITE_TURNED_ON, _SPRITE_TURNED_OFF = 3, 5  # plus one if the bit shown is on


def draw_patterns(canvas: Canvas, explanation: Explanation | None) -> None:
    """Draw the nearest stored pattern and this frame's, side by side.

    A light cell is a neuron that is on, a dark cell one that is off. A neuron whose two bits differ
    has a coloured frame in both grids: vermillion if it is unexpectedly on, blue if it is
    unexpectedly off; its centre shows the bit.

    Args:
        canvas: Canvas to draw on.
        explanation: Explanation; None if the monitor stores no patterns.
    """
    if explanation is None or not len(explanation.pattern):
        canvas.text('No neuron patterns in this bundle', 0, 12, 9, MUTED)
        return
    here, expected = explanation.pattern, explanation.nearest
    turned_on, turned_off = int((here & ~expected).sum()), int((expected & ~here).sum())
    monitored = int(explanation.monitored.sum())
    left = canvas.text('Pattern  ', 0, 12, 9, MUTED)
    told = f'distance {explanation.distance} of {monitored} monitored'
    if explanation.distance > monitored:
        told = 'no pattern of this class is stored'
    canvas.text(told, left, 12, 9, WHITE)
    gap = 16
    half = (canvas.width - gap) / 2
    top, bottom = 34, canvas.height - 18
    rooms = [
        canvas.area(left, top, left + half, bottom).pixels for left in (0, half + gap)
    ]
    columns, cell = _grid_layout(len(here), *rooms[0].shape[:2], canvas.real(_LARGEST_CELL))
    for title, bits, left, room in zip(
        ('expected (nearest)', 'this frame'), (expected, here), (0, half + gap), rooms,
        strict=True,
    ):
        canvas.text(title, left, 28, 8, WHITE, room=half)
        grid = _bit_grid(_sprite_numbers(explanation, bits), columns, cell)
        Canvas(room).stamp(grid, 0, 0)
    below = top + min(math.ceil(len(here) / columns) * cell / canvas.unit, bottom - top)
    left_out = _left_out(len(here), columns, cell, rooms[0])
    _pattern_key(canvas, below + 15, turned_on, turned_off, left_out)


def draw_evidence_kind(canvas: Canvas, verdict: Verdict) -> float:
    """Write what a flagged frame is unusual in: the kind of its strongest evidence, and others.

    Args:
        canvas: Canvas to draw on.
        verdict: Verdict on the frame.

    Returns:
        The row below, the same for every frame.
    """
    kind = verdict.evidence_kind
    if kind is None:
        text = 'This frame is flagged' if verdict.is_ood else 'This frame is not flagged'
        canvas.text(text, 0, 12, 9, MUTED)
        return _KIND_ROWS
    left = canvas.text('Unusual in  ', 0, 12, 9, MUTED)
    canvas.text(kind.label, left, 12, 9, WHITE, bold=True)
    canvas.text(f'({kind.meaning})', 0, 28, 8, WHITE)
    also = ', '.join(other.label for other in verdict.flagged_kinds if other is not kind)
    canvas.text(f'also in {also}' if also else '', 0, 42, 8, WHITE)
    return _KIND_ROWS


def draw_scores(canvas: Canvas, verdict: Verdict) -> float:
    """Draw one bar of -log10 p per score, and the alarm threshold of the decisive one.

    Args:
        canvas: Canvas to draw on.
        verdict: Verdict on the frame.

    Returns:
        The row below the last one.
    """
    canvas.text('Scores (bar: -log10 p)', 0, 12, 9, MUTED)
    names = [verdict.decisive, *(name for name in verdict.scores if name != verdict.decisive)]
    # 'relative mahalanobis' would leave no room for its bar.
    labels = {name: name.replace('_', ' ').replace('relative', 'rel.') for name in names}
    left = min(
        0.5 * canvas.width,
        10 + max(canvas.text_width(labels[name], 9, bold=name == names[0]) for name in names),
    )
    right = canvas.width - 58
    tick = left + _share(_surprise(verdict.threshold), DECADES) * (right - left)
    pitch, shown = _rows(canvas.height - 42, len(names), 17)
    top = 20.0
    for name in names[:shown]:
        value = verdict.scores[name].p_value
        decisive = name == verdict.decisive
        ink = WHITE if decisive else MUTED
        canvas.text(labels[name], 0, top + 11, 9, ink, bold=decisive, room=left - 6)
        bar = canvas.area(left, top + 2, right, top + 12)
        _bar(bar, _surprise(value), VERMILLION if value <= verdict.threshold else BLUE)
        canvas.text_ending_at(p_text(value), canvas.width, top + 11, 9, ink, bold=decisive)
        if math.isfinite(tick):
            reach, stroke = (2, 2) if decisive else (0, 1)
            canvas.fill(tick, top + 2 - reach, tick + stroke, top + 12 + reach, WHITE)
        top += pitch
    note = f'line: alarm at p <= {p_text(verdict.threshold)} of {labels[verdict.decisive]}'
    hidden = len(names) - shown
    note += f'; {hidden} more scores' if hidden else ''
    canvas.text(note, 0, top + 9, 8, MUTED)
    return top + 18


def draw_neurons(canvas: Canvas, explanation: Explanation | None) -> None:
    """List the neurons that deviate most, with their z-scores.

    Args:
        canvas: Canvas to draw on.
        explanation: Explanation; None if it is not available.
    """
    if explanation is None or not explanation.neurons:
        canvas.text('No deviating neurons to name', 0, 12, 9, MUTED)
        return
    canvas.text('Most deviating neurons', 0, 12, 9, MUTED)
    columns = 18, 66, 116, canvas.width - 50  # columns of index, value, bar, z-score
    canvas.text('neuron', columns[0], 28, 8, MUTED)
    canvas.text('value', columns[1], 28, 8, MUTED)
    canvas.text_ending_at('z-score', canvas.width, 28, 8, MUTED)
    pitch, shown = _rows(canvas.height - 34, len(explanation.neurons), 16)
    top = 34.0
    for neuron in explanation.neurons[:shown]:
        _neuron_row(canvas, neuron, top, columns)
        top += pitch


def p_text(p_value: float) -> str:
    """Return a p-value in at most seven characters."""
    if math.isnan(p_value):
        return 'unknown'
    if p_value >= 0.0995:
        return f'{p_value:.2f}'
    return f'{p_value:.2g}'.replace('e-0', 'e-')


def _rows(room: float, count: int, pitch: int) -> tuple[float, int]:
    """Return the distance between rows, larger if there is room, and how many fit."""
    shown = max(1, min(count, int(room // pitch)))
    return min(1.25 * pitch, max(pitch, room / shown)), shown


def _neuron_row(
    canvas: Canvas, neuron: Neuron, top: float, columns: tuple[int, int, int, int]
) -> None:
    index, value, left, right = columns
    changed = neuron.bit != neuron.expected_bit
    color = (_TURNED_ON if neuron.bit else _TURNED_OFF) if changed else MUTED
    canvas.stamp(_sprites(canvas.real(12))[_sprite_number(neuron)], 0, top + 1)
    canvas.text(str(neuron.index), index, top + 11, 9, WHITE, room=value - index - 4)
    canvas.text(_value_text(neuron.value), value, top + 11, 9, WHITE, room=left - value - 4)
    bar = canvas.area(left, top + 2, right, top + 12)
    _signed_bar(bar, neuron.z, color)
    canvas.text_ending_at(_z_text(neuron.z), canvas.width, top + 11, 9, WHITE)


def _value_text(value: float) -> str:
    if abs(value) < 100:
        return f'{value:.2f}'
    return f'{value:.0f}' if abs(value) < 10000 else f'{value:.0e}'


def _z_text(z: float) -> str:
    if math.isnan(z):
        return 'nan'
    return f'{z:+.1f}' if abs(z) < 1000 else f'{z:+.0e}'


def _surprise(p_value: float) -> float:
    """Return -log10 p; infinite for 0, NaN if p is not a probability."""
    if math.isnan(p_value) or p_value < 0:
        return math.nan
    return -math.log10(p_value) if p_value > 0 else math.inf


def _share(value: float, whole: float) -> float:
    """Return value / whole within [0, 1]; NaN stays NaN."""
    return value if math.isnan(value) else min(1.0, max(0.0, value / whole))


def _bar(canvas: Canvas, surprise: float, color: Color) -> None:
    """Fill a bar from the left over decades; beyond the last one, it ends in an arrow."""
    paint(canvas.pixels, PANEL)
    if math.isnan(surprise):
        paint(canvas.pixels[:, ::4], FAINT)
        return
    width = canvas.pixels.shape[1]
    paint(canvas.pixels[:, : round(_share(surprise, DECADES) * width)], color)
    if surprise > DECADES:
        _arrow(canvas.pixels, pointing_right=True)


def _signed_bar(canvas: Canvas, z: float, color: Color) -> None:
    """Fill a bar from the middle to either side."""
    pixels = canvas.pixels
    paint(pixels, PANEL)
    if math.isnan(z):
        pixels[:, ::4] = FAINT
        return
    middle = pixels.shape[1] // 2
    length = round(_share(abs(z), LARGEST_Z) * middle)
    if length:
        left = middle if z > 0 else middle - length
        paint(pixels[:, left : left + length], color)
    pixels[:, middle : middle + 1] = WHITE
    if abs(z) > LARGEST_Z:
        _arrow(pixels, pointing_right=z > 0)


def _arrow(pixels: np.ndarray, *, pointing_right: bool) -> None:
    """Cut the end of a bar to a point, since its value is larger."""
    rows = pixels.shape[0]
    cut = np.abs(np.arange(rows) - (rows - 1) / 2).astype(int)
    outside = np.arange(rows // 2 + 1)[None] >= (rows // 2 + 1 - cut)[:, None]
    if outside.shape[1] > pixels.shape[1]:
        return
    if pointing_right:
        pixels[:, -outside.shape[1] :][outside] = BACKGROUND
    else:
        pixels[:, : outside.shape[1]][outside[:, ::-1]] = BACKGROUND


def _pattern_key(
    canvas: Canvas, baseline: float, turned_on: int, turned_off: int, left_out: int
) -> None:
    """Write the legend of the grids."""
    left = 0.0
    for sprite, meaning in (
        (_SPRITE_TURNED_ON + 1, f'{turned_on} on, expected off'),
        (_SPRITE_TURNED_OFF, f'{turned_off} off, expected on'),
    ):
        canvas.stamp(_sprites(canvas.real(11))[sprite], left, baseline - 10)
        left = canvas.text(meaning, left + 15, baseline, 8, WHITE) + 14
    if left_out:
        canvas.text(f'{left_out} neurons not shown', left, baseline, 8, MUTED)


@lru_cache(maxsize=64)
def _grid_layout(count: int, height: int, width: int, largest: int) -> tuple[int, int]:
    """Return the number of columns and the cells' side in pixels, as large as fits."""
    for cell in range(largest, 1, -1):
        columns = width // cell
        if columns and math.ceil(count / columns) * cell <= height:
            return columns, cell
    return max(1, width), 1


def _left_out(count: int, columns: int, cell: int, room: np.ndarray) -> int:
    """Return how many neurons do not fit."""
    return max(0, count - columns * (room.shape[0] // cell))


def _sprite_number(neuron: Neuron) -> int:
    if neuron.bit == neuron.expected_bit:
        return _SPRITE_ON if neuron.bit else _SPRITE_OFF
    return _SPRITE_TURNED_ON + 1 if neuron.bit else _SPRITE_TURNED_OFF


def _sprite_numbers(explanation: Explanation, bits: np.ndarray) -> np.ndarray:
    """Return the sprite of each neuron, int64 (D,)."""
    here, expected = explanation.pattern, explanation.nearest
    numbers = np.where(explanation.monitored, bits.astype(np.int64), _SPRITE_UNMONITORED)
    for changed, sprite in (
        (here & ~expected, _SPRITE_TURNED_ON),
        (expected & ~here, _SPRITE_TURNED_OFF),
    ):
        numbers[changed] = sprite + bits[changed]
    return numbers


def _bit_grid(numbers: np.ndarray, columns: int, cell: int) -> np.ndarray:
    """Return the sprites row by row, uint8 (rows * cell, columns * cell, 3)."""
    rows = math.ceil(len(numbers) / columns)
    sprites = _sprites(cell)
    padded = np.full(rows * columns, len(sprites) - 1)
    padded[: len(numbers)] = numbers
    grid = sprites[padded].reshape(rows, columns, cell, cell, 3).swapaxes(1, 2)
    return grid.reshape(rows * cell, columns * cell, 3)


@lru_cache(maxsize=32)
def _sprites(cell: int) -> np.ndarray:
    """Return the sprites of cells, uint8 (8, cell, cell, 3); the last one is empty."""
    sprites = np.empty((8, cell, cell, 3), np.uint8)
    sprites[:] = BACKGROUND
    ink = cell - 1 if cell >= 3 else cell  # a gap separates neighbours
    sprites[_SPRITE_OFF, :ink, :ink] = _OFF
    sprites[_SPRITE_ON, :ink, :ink] = _ON
    sprites[_SPRITE_UNMONITORED, :ink, :ink] = _UNMONITORED
    for first, color in ((_SPRITE_TURNED_ON, _TURNED_ON), (_SPRITE_TURNED_OFF, _TURNED_OFF)):
        sprites[first : first + 2, :ink, :ink] = color
        if cell >= _SMALLEST_FRAMED:
            edge = max(1, round(0.22 * ink))
            sprites[first, edge : ink - edge, edge : ink - edge] = BACKGROUND
            sprites[first + 1, edge : ink - edge, edge : ink - edge] = WHITE
    return sprites
