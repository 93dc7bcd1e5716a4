"""Signed values as colours around an exact mid-grey: blue below 0, vermillion above."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import BLUE, MUTED, ORANGE, VERMILLION, WHITE

MID_GREY = 128  # value of all three colours for 0
_STEPS = 127  # levels on either side of 0
_STRIPE = 3  # pixels, widths of the light and dark stripes of the hatching


def reach_of(*arrays: np.ndarray, percentile: float = 99.5) -> float:
    """Return the magnitude at the end of the colour scale: a percentile of all absolute values.

    Args:
        arrays: Arrays of any shape; values that are not finite are ignored.
        percentile: 0 to 100; if the percentile is 0 but some value is not, the maximum is used.

    Returns:
        A positive value; 0 if all values are 0.
    """
    parts = [np.abs(array[np.isfinite(array)], dtype=np.float64) for array in arrays]
    magnitudes = np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(0)
    if not magnitudes.size:
        return 0.0
    return float(np.percentile(magnitudes, percentile)) or float(magnitudes.max())


def signed_colors(values: np.ndarray, reach: float) -> np.ndarray:
    """Return the colour of each value.

    Args:
        values: float (...).
        reach: Magnitude from which on the colour is full; 0 if all values are 0.

    Returns:
        uint8 (..., 3) RGB; 0 is exactly mid-grey, and so are values that are not finite (see
        ``hatched``).
    """
    return signed_table()[_levels(values, reach) + _STEPS]


def channel_colors(values: np.ndarray, reach: float) -> np.ndarray:
    """Return values of three colours as one picture, each brighter above 0 and darker below.

    Args:
        values: float (H, W, 3), red, green and blue.
        reach: As for ``signed_colors``.

    Returns:
        uint8 (H, W, 3) RGB; a pixel whose values are 0 is exactly mid-grey.
    """
    return (_levels(values, reach) + MID_GREY).astype(np.uint8)


def hatched(pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return a picture with stripes where there is nothing to show, such as at NaN.

    Args:
        pixels: uint8 (H, W, 3).
        where: bool (H, W).
    """
    if not where.any():
        return pixels
    rows, columns = where.shape
    light = np.add.outer(np.arange(rows), np.arange(columns)) % (2 * _STRIPE) < _STRIPE
    marked = pixels.copy()
    marked[where & light] = WHITE
    marked[where & ~light] = (0, 0, 0)
    return marked


@lru_cache(maxsize=1)
def signed_table() -> np.ndarray:
    """Return the colours from -1 to 1 in even steps, uint8 (255, 3) RGB, read-only."""
    share = np.linspace(0, 1, _STEPS + 1)[:, None]
    down, up = (
        MID_GREY + share * (np.array(color) - MID_GREY) for color in (BLUE, VERMILLION)
    )
    table = np.concatenate([down[:0:-1], up]).round().astype(np.uint8)
    table.flags.writeable = False
    return table


def draw_signed_bar(canvas: Canvas, left: float, right: float, top: float, reach: float) -> None:
    """Draw the colour scale with three numbers below it, 30 design pixels high.

    Args:
        canvas: Drawn on.
        left: First column, design pixels.
        right: Last column.
        top: First row.
        reach: As for ``signed_colors``.
    """
    table = signed_table()
    ramp = canvas.area(left, top, right, top + 14).pixels
    ramp[:] = table[np.linspace(0, len(table) - 1, max(1, ramp.shape[1])).round().astype(int)]
    if not reach:
        canvas.text('0 everywhere', left, top + 28, 8, ORANGE, room=right - left)
        return
    for text, place in ((f'{-reach:.2g}', 0.0), ('0', 0.5), (f'{reach:+.2g}', 1.0)):
        width = canvas.text_width(text, 8)
        tick = left + place * (right - left)
        start = min(max(left, tick - width / 2), right - width)
        canvas.text(text, start, top + 28, 8, MUTED, room=width + 1)


def _levels(values: np.ndarray, reach: float) -> np.ndarray:
    """Return integers from -127 to 127, 0 for values that are not finite."""
    if not reach:
        return np.zeros(values.shape, np.int64)
    with np.errstate(invalid='ignore', over='ignore'):
        scaled = np.clip(np.asarray(values, np.float64) / reach, -1, 1) * _STEPS
    return np.nan_to_num(scaled, nan=0.0).round().astype(np.int64)
