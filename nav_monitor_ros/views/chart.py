"""A small chart of lines in the style of all pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import FAINT, MUTED, PANEL, WHITE, Color

_FRACTION = 4  # bits of a pixel's position that OpenCV takes into account
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 40, 30, 14  # margins around the lines, pixels of the design
_TICKS = 5  # on an axis, about
_DASHES: dict[str, tuple[int, int]] = {'solid': (1, 0), 'dashed': (9, 5), 'dotted': (2, 4)}


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    x: np.ndarray  # float (N,)
    y: np.ndarray  # float (N,); what is not finite interrupts the line
    color: Color
    style: str = 'solid'  # or dashed, dotted


def draw_chart(
    canvas: Canvas,
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    percent: bool = False,
    mark: float | None = None,
) -> None:
    """Draw lines with axes, a legend and a title.

    Args:
        canvas: All of it is used.
        lines: At least one.
        title: What the chart shows.
        x_label: Below the horizontal axis.
        y_label: Above the vertical axis.
        y_range: Of the vertical axis; by default that of the values.
        percent: Write the vertical axis' numbers, shares of 1, in percent.
        mark: Where a vertical line stands, with a dot on each line.
    """
    canvas.fill(0, 0, canvas.width, canvas.height, PANEL)
    canvas.text(title, 12, 18, 10, WHITE, bold=True, room=canvas.width - 24)
    top = _TOP + (18 if len(lines) > 1 else 0) + 18
    plot = canvas.area(_LEFT, top, canvas.width - _RIGHT, canvas.height - _BOTTOM)
    if plot.pixels.shape[0] < 8 or plot.pixels.shape[1] < 8:
        return
    if len(lines) > 1:
        _legend(canvas, lines)
    x_range = _range_of([line.x for line in lines])
    y_range = y_range or _range_of([line.y for line in lines])
    canvas.text(y_label, 12, top - 11, 8, MUTED)
    width = canvas.text_width(x_label, 8)
    canvas.text(x_label, max(0, _LEFT + (plot.width - width) / 2), canvas.height - 6, 8, MUTED)
    _axes(canvas, plot, top, x_range, y_range, percent)
    for line in lines:
        _draw_line(plot, line, x_range, y_range)
    if mark is not None:
        _draw_mark(plot, lines, mark, x_range, y_range)


def _range_of(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the smallest and largest finite value, a little apart where they are the same."""
    joined = np.concatenate([np.asarray(v, np.float64).ravel() for v in values])
    finite = joined[np.isfinite(joined)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    spare = 0.0 if high > low else abs(high) / 2 or 0.5
    return low - spare, high + spare


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from ``low`` to ``high``."""
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(
    canvas: Canvas,
    plot: Canvas,
    top: float,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    percent: bool,
) -> None:
    for value in _ticks(*y_range):
        row = plot.height * (y_range[1] - value) / (y_range[1] - y_range[0])
        plot.fill(0, row, plot.width, row + 1, FAINT)
        text = f'{value:.0%}' if percent else f'{value:.4g}'
        canvas.text_ending_at(text, _LEFT - 6, top + row + 4, 8, MUTED)
    for value in _ticks(*x_range):
        column = plot.width * (value - x_range[0]) / (x_range[1] - x_range[0])
        text = f'{value:.4g}'
        width = canvas.text_width(text, 8)
        left = min(_LEFT + column - width / 2, canvas.width - width - 2)
        canvas.text(text, left, top + plot.height + 15, 8, MUTED, room=width + 1)


def _legend(canvas: Canvas, lines: Sequence[Line]) -> None:
    left = 12.0
    for line in lines:
        row = canvas.real(_TOP + 4)
        _stroke(
            canvas, np.array([[canvas.real(left), row], [canvas.real(left + 22), row]], float), line
        )
        left = canvas.text(line.name, left + 28, _TOP + 8, 8, WHITE) + 18


def _points(
    plot: Canvas, x: np.ndarray, y: np.ndarray,
    x_range: tuple[float, float], y_range: tuple[float, float],
) -> np.ndarray:
    """Return real pixels (N, 2), column and row; NaN where a value is not finite."""
    rows, columns = plot.pixels.shape[0] - 1, plot.pixels.shape[1] - 1
    across = (np.asarray(x, np.float64) - x_range[0]) / (x_range[1] - x_range[0])
    down = (y_range[1] - np.asarray(y, np.float64)) / (y_range[1] - y_range[0])
    points = np.stack([across * columns, np.clip(down, 0, 1) * rows], axis=1)
    points[~np.isfinite(points).all(axis=1)] = np.nan
    return points


def _draw_line(
    plot: Canvas, line: Line, x_range: tuple[float, float], y_range: tuple[float, float]
) -> None:
    points = _points(plot, line.x, line.y, x_range, y_range)
    known = np.isfinite(points).all(axis=1)
    for part in np.split(np.arange(len(points)), np.flatnonzero(np.diff(known)) + 1):
        if part.size and known[part[0]]:
            _stroke(plot, points[part], line)


def _stroke(canvas: Canvas, points: np.ndarray, line: Line) -> None:
    """Draw a line through real pixels (N, 2), in dashes if it has any."""
    thickness = max(1, canvas.real(2))
    on, off = (canvas.real(length) for length in _DASHES[line.style])
    if len(points) == 1:
        _dot(canvas, points[0], line.color, 2)
        return
    pieces = [points] if not off else _dashes(points, on, off)
    for piece in pieces:
        cv2.polylines(
            canvas.pixels, [_fixed(piece)], False, line.color, thickness, cv2.LINE_AA, _FRACTION
        )


def _dashes(points: np.ndarray, on: float, off: float) -> list[np.ndarray]:
    """Cut a line into pieces ``on`` long with ``off`` between, in pixels."""
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    pieces = []
    for start in np.arange(0, lengths[-1], on + off):
        stop = min(start + on, lengths[-1])
        inside = lengths[(lengths > start) & (lengths < stop)]
        places = np.concatenate([[start], inside, [stop]])
        pieces.append(
            np.stack([np.interp(places, lengths, points[:, axis]) for axis in (0, 1)], axis=1)
        )
    return pieces


def _draw_mark(
    plot: Canvas,
    lines: Sequence[Line],
    mark: float,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> None:
    column = plot.width * (mark - x_range[0]) / (x_range[1] - x_range[0])
    plot.fill(column, 0, column + 1, plot.height, WHITE)
    for line in lines:
        known = np.isfinite(line.y)
        if known.any() and line.x[known].min() <= mark <= line.x[known].max():
            value = np.interp(mark, line.x[known], line.y[known])
            (point,) = _points(plot, np.array([mark]), np.array([value]), x_range, y_range)
            _dot(plot, point, line.color, 4)


def _dot(canvas: Canvas, point: np.ndarray, color: Color, radius: float) -> None:
    (center,) = _fixed(point[None])
    cv2.circle(
        canvas.pixels, tuple(map(int, center)), canvas.real(radius) << _FRACTION, color, -1,
        cv2.LINE_AA, _FRACTION,
    )


def _fixed(points: np.ndarray) -> np.ndarray:
    """Return positions as OpenCV takes them, int32 (N, 2)."""
    return (points * (1 << _FRACTION)).round().astype(np.int32)
