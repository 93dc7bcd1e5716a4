"""Charts within a picture, drawn by matplotlib in the common colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import (
    FAINT,
    MUTED,
    ORANGE,
    PANEL,
    VERMILLION,
    WHITE,
    Color,
)

_DPI = 100.0
_LEAST = 64  # pixels, smallest side of a chart
_LARGEST = 1e15  # larger magnitudes are clipped: the limit of matplotlib's axes
_DASHES: dict[str, tuple[float, ...]] = {'solid': (), 'dashed': (5, 3), 'dotted': (1.2, 2)}


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    x: np.ndarray  # float (N,)
    y: np.ndarray  # float (N,); values that are not finite interrupt the line
    color: Color
    style: str = 'solid'  # or dashed, dotted


def draw_lines(
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
    """Draw lines with axes, a title and, for several lines, a legend.

    Args:
        canvas: Canvas to fill.
        lines: At least one line.
        title: Title of the chart.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        y_range: Range of the vertical axis; by default that of the values.
        percent: Show the values of the vertical axis as percentages.
        mark: Position of a vertical line, with a dot on each line.
    """
    with _chart(canvas, title, x_label, y_label) as axes:
        for line in lines:
            y = _bounded(line.y)
            lone = len(line.x) == 1
            axes.plot(
                line.x, y, color=_hex(line.color), linewidth=1.6, marker='o' if lone else '',
                linestyle=(0, _DASHES[line.style]) if _DASHES[line.style] else '-',
                label=line.name,
            )
            known = np.isfinite(y)
            if mark is not None and known.any() and (
                line.x[known].min() <= mark <= line.x[known].max()
            ):
                value = np.interp(mark, line.x[known], y[known])
                axes.plot([mark], [value], marker='o', markersize=6, color=_hex(line.color))
        if mark is not None:
            axes.axvline(mark, color=_hex(WHITE), linewidth=1, zorder=0)
        if y_range is not None:
            low, high = y_range
            axes.set_ylim(low - 0.02 * (high - low), high + 0.02 * (high - low))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if len(lines) > 1:
            axes.legend(
                loc='lower left', bbox_to_anchor=(0, 1), ncol=len(lines), frameon=False,
                fontsize=7.5, labelcolor=_hex(WHITE), borderaxespad=0, handlelength=2.4,
            )


def draw_bars(
    canvas: Canvas, values: np.ndarray, names: Sequence[str], *, title: str, x_label: str
) -> None:
    """Draw a bar for each value, from 0; one that is not finite is orange and has full height.

    Args:
        canvas: Canvas to fill.
        values: float (N,), non-negative.
        names: Names of the N bars; as many are written as fit.
        title: Title of the chart.
        x_label: Label of the horizontal axis.
    """
    finite = np.isfinite(values)
    largest = float(values[finite].max()) if finite.any() else 0.0
    largest = min(largest, _LARGEST) or 1.0
    with _chart(canvas, title, x_label, '') as axes:
        places = np.arange(len(values))
        axes.bar(
            places, np.where(finite, np.minimum(values, largest), largest), width=0.85,
            color=[_hex(VERMILLION if known else ORANGE) for known in finite],
        )
        shown = max(1, int(np.ceil(len(values) * 24 / max(1, canvas.width))))
        axes.set_xticks(places[::shown], list(names[::shown]), fontsize=7)
        axes.set_xlim(-0.6, max(len(values), 8) - 0.4)
        axes.set_ylim(0, 1.05 * largest)
        axes.yaxis.set_major_locator(MaxNLocator(4))


@contextmanager
def _chart(canvas: Canvas, title: str, x_label: str, y_label: str) -> Iterator[Axes]:
    """Yield axes to draw on, then copy the drawing to the canvas."""
    canvas.fill(0, 0, canvas.width, canvas.height, PANEL)
    height, width = canvas.pixels.shape[:2]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        scale = max(canvas.unit, 1e-3)
        size = max(width, _LEAST) / _DPI / scale, max(height, _LEAST) / _DPI / scale
        figure = Figure(figsize=size, dpi=_DPI * scale, facecolor=_hex(PANEL))
        axes = figure.add_subplot(facecolor=_hex(PANEL))
        figure.text(
            0.02, 0.97, title, ha='left', va='top', color=_hex(WHITE), fontsize=9,
            fontweight='bold', parse_math=False,
        )
        axes.grid(axis='y', color=_hex(FAINT), linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_hex(MUTED), labelsize=7.5, length=2)
        axes.spines[['top', 'right']].set_visible(False)
        axes.spines[['left', 'bottom']].set_color(_hex(FAINT))
        axes.set_xlabel(x_label, color=_hex(MUTED), fontsize=8)
        axes.set_ylabel(y_label, color=_hex(MUTED), fontsize=8)
        yield axes
        if min(height, width) < _LEAST:
            return
        figure.subplots_adjust(
            left=min(0.4, 0.62 / size[0]), right=1 - min(0.1, 0.12 / size[0]),
            bottom=min(0.4, 0.42 / size[1]), top=1 - min(0.4, 0.52 / size[1]),
        )
        drawn = FigureCanvasAgg(figure)
        drawn.draw()
        canvas.pixels[:] = np.asarray(drawn.buffer_rgba())[:height, :width, :3]


def _bounded(values: np.ndarray) -> np.ndarray:
    """Return values that matplotlib can draw; those that are not finite become NaN, a gap."""
    values = np.asarray(values, np.float64)
    return np.clip(np.where(np.isfinite(values), values, np.nan), -_LARGEST, _LARGEST)


def _hex(color: Color) -> str:
    return '#{:02x}{:02x}{:02x}'.format(*color)
