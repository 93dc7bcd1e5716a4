"""The fixed scale of a layer's values: their levels, the limits in training, and the legend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import (
    ABOVE,
    BACKGROUND,
    BELOW,
    HIGHEST,
    LOWEST,
    MUTED,
    NOT_A_NUMBER,
    ORANGE,
    WHITE,
    level_table,
    paint,
)

_DESIGN_WIDTH = 640  # pixels; wider pictures have a larger legend
_LEGEND = 64  # rows of the legend, design pixels
_HEADING = 22  # rows above it for a heading, design pixels
_MARGIN = 12  # design pixels
_CAP, _GAP = 12, 3  # columns of the colours outside the limits, and between them and the ramp
_BETWEEN = 4  # smallest distance between two numbers below the ramp, design pixels


@dataclass(frozen=True)
class Scale:
    """Mapping of values to colours, the same in every frame."""

    low: float  # ends of the ramp
    high: float
    limits: tuple[float, float]  # within the ramp; values beyond have the colours outside it
    colormap: str
    note: str  # note on the scale
    above: str  # note on values above the limits

    def share(self, value: float) -> float:
        """Return the place of a value on the ramp, from 0 to 1."""
        # Halves, since the whole ramp may be longer than the largest number.
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)


@lru_cache(maxsize=64)
def scale_of(low: float, high: float, colormap: str, trained: bool) -> Scale:
    """Return the scale for a range of values.

    The ramp starts at 0, or is symmetric around 0 and diverges if there are negative values. The
    limits are the range itself.

    Args:
        low: Low percentile of the values; a range that is not finite or empty is replaced by 0 to
            1, with a note.
        high: High percentile.
        colormap: ``viridis`` or ``inferno``, for ranges without negative values.
        trained: Whether the range is that of training rather than the image's own.
    """
    above = 'above training' if trained else 'above'
    note = '' if trained else "the scale is this image's own: 1 to 99 % of its values"
    if not (math.isfinite(low) and math.isfinite(high)) or high < low:
        note = f'no {"training " if trained else ""}range is known: 0 to 1 is shown'
        return Scale(0.0, 1.0, (0.0, 1.0), colormap, note, above)
    if low < 0:
        reach = max(-low, abs(high), 1e-30)
        return Scale(-reach, reach, (low, high), 'diverging', note, above)
    if high < 1e-30:
        note = f'always 0 in {"training" if trained else "this image"}: 0 to 1 is shown'
        return Scale(0.0, 1.0, (0.0, 1.0), colormap, note, above)
    return Scale(0.0, high, (low, high), colormap, note, above)


def levels_of(values: np.ndarray, scale: Scale) -> tuple[np.ndarray, bool]:
    """Return the level of every value, uint8, and whether any is not finite.

    Args:
        values: float32, of any shape.
        scale: Scale of the values; those at least half a level beyond its limits are BELOW or
            ABOVE. (Bundles store rounded limits, which many values of a saturating layer equal.)
    """
    gain = (HIGHEST - LOWEST) / (scale.high - scale.low)
    offset = LOWEST + 0.5 - gain * scale.low  # 0.5: the conversion to uint8 truncates
    # The sum is finite only if all values are, and is cheaper than testing each.
    with np.errstate(over='ignore', invalid='ignore'):
        broken = not math.isfinite(float(values.sum()))
        scaled = values * np.float32(gain)
        scaled += np.float32(offset)
        invalid = ~np.isfinite(values) if broken else None
    if invalid is not None:
        scaled[invalid] = NOT_A_NUMBER
    levels = _truncated(scaled, scale)
    if invalid is None or not invalid.any():
        return levels, False
    levels[invalid] = NOT_A_NUMBER
    return levels, True


def _truncated(places: np.ndarray, scale: Scale) -> np.ndarray:
    """Return the levels of places on the ramp, from LOWEST + 0.5 to HIGHEST + 0.5, uint8.

    ``places`` is clipped in place.
    """
    first, last = (LOWEST + scale.share(limit) * (HIGHEST - LOWEST) for limit in scale.limits)
    # At the ends of the ramp, clipping is enough.
    below = places < first if first > LOWEST else None
    above = places >= last + 1 if last < HIGHEST else None
    np.clip(places, BELOW, ABOVE, out=places)
    levels = places.astype(np.uint8)
    if below is not None:
        levels[below] = BELOW
    if above is not None:
        levels[above] = ABOVE
    return levels


@lru_cache(maxsize=16)
def draw_legend(
    width: int, heading: str, layer: str, facts: str, note: str, scale: Scale
) -> np.ndarray:
    """Return the rows above the maps of a layer, uint8 (rows, width, 3) RGB, read-only.

    Args:
        width: Width of the picture, pixels.
        heading: What is shown, in a line of its own; '' for no such line.
        layer: Title of the layer.
        facts: Its shape, and which channels are shown.
        note: Note on the scale.
        scale: The scale.
    """
    unit = max(1.0, width / _DESIGN_WIDTH)
    top = _HEADING if heading else 0
    legend = np.empty((round((top + _LEGEND) * unit), width, 3), np.uint8)
    paint(legend, BACKGROUND)
    whole = Canvas(legend, unit)
    right = whole.width - _MARGIN
    if heading:
        whole.text(heading, _MARGIN, 15, 9, WHITE, room=right - _MARGIN)
    canvas = whole.area(0, top, whole.width + 1, top + _LEGEND)
    bar = min(200, max(128, 0.3125 * canvas.width))
    room = right - bar - 3 * _MARGIN
    height = canvas.height_that_fits(layer, room, 11, 8, bold=True)
    canvas.text(layer, _MARGIN, 24, height, WHITE, bold=True, room=room)
    height = canvas.height_that_fits(facts, room, 9, 8)
    canvas.text(facts, _MARGIN, 41, height, MUTED, room=room)
    canvas.text(note, _MARGIN, 57, 8, ORANGE, room=room)
    _color_bar(canvas, right - bar, right, scale)
    legend.flags.writeable = False
    return legend


def _color_bar(canvas: Canvas, left: float, right: float, scale: Scale) -> None:
    """Draw the colour of every value on the ramp, with those outside the limits at the ends."""
    table = level_table(scale.colormap)
    ends = (left + _CAP + _GAP, right - _CAP - _GAP)
    ramp = canvas.area(ends[0], 12, ends[1], 26).pixels
    places = np.linspace(LOWEST, HIGHEST, ramp.shape[1]) + 0.5
    ramp[:] = table[_truncated(places, scale)]
    canvas.area(left, 12, left + _CAP, 26).pixels[:] = table[BELOW]
    canvas.area(right - _CAP, 12, right, 26).pixels[:] = table[ABOVE]
    _numbers_below(canvas, left, right, ends, scale)
    canvas.text('below', left, 56, 8, MUTED)
    canvas.text_ending_at(scale.above, right, 56, 8, MUTED)


def _numbers_below(
    canvas: Canvas, left: float, right: float, ends: tuple[float, float], scale: Scale
) -> None:
    """Write the limits at their places below the ramp, and its middle if there is room."""
    values = *scale.limits, scale.low / 2 + scale.high / 2
    ticks = [ends[0] + scale.share(value) * (ends[1] - ends[0]) for value in values]
    texts = [f'{value:.3g}' for value in values]
    widths = [canvas.text_width(text, 8) for text in texts]
    starts = [tick - width / 2 for tick, width in zip(ticks, widths, strict=True)]
    starts[1] = min(max(left, starts[1]), right - widths[1])
    starts[0] = min(max(left, starts[0]), starts[1] - _BETWEEN - widths[0])
    free = starts[0] + widths[0] + _BETWEEN, starts[1] - _BETWEEN - widths[2]
    shown = 3 if free[0] <= starts[2] <= free[1] else 2
    for tick, text, width, start in zip(ticks[:shown], texts, widths, starts, strict=False):
        canvas.fill(tick - 0.5, 26, tick + 0.5, 30, MUTED)
        canvas.text(text, start, 41, 8, MUTED, room=width + 1)
