"""Gradients of a convolution's filters for several classes, and the importance of each filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import (
    BACKGROUND,
    MUTED,
    ORANGE,
    SKY,
    VERMILLION,
    WHITE,
    Color,
    paint,
)
from nav_monitor_ros.views.gradients.line_charts import Line, draw_bars, draw_lines
from nav_monitor_ros.views.gradients.signed_colors import draw_signed_bar, reach_of
from nav_monitor_ros.views.gradients.weight_volume import WeightVolume, draw_slice, draw_volume

STRONG = 85.0  # percentile of the absolute values above which weights are drawn as cubes

_COLUMN = 384  # pixels of a column
_MARGIN = 14
_HEAD = 82  # rows of the title and the legend
_WORDS = 92  # rows above a volume
_VOLUME = 270  # rows of a volume
_NOTHING = 48  # rows of examples without any image
_CHARTS = 250  # rows of the charts
_THUMB = 64  # pixels of an input's picture
_BARS = 60  # largest number of filters named in the importance chart
_STYLES: tuple[tuple[Color, str], ...] = (
    (VERMILLION, 'solid'), (SKY, 'dashed'), (ORANGE, 'dotted'),
)


@dataclass(frozen=True)
class Example:
    """One image with the gradient of its class's logit."""

    heading: str  # role and name of the class
    reason: str  # reason for the choice of the class
    says: str  # prediction of the network for the image
    figures: str = ''  # facts on the gradient
    seen: np.ndarray | None = None  # input of the network, uint8 (h, w, 3) RGB
    volume: WeightVolume | None = None  # None if there is no such image

    @property
    def weights(self) -> np.ndarray:
        """Return the gradient's values, empty if there is no image."""
        return np.zeros(0) if self.volume is None else self.volume.values


@dataclass(frozen=True)
class Filters:
    """Importance of each filter, and the accuracy without some of them."""

    importance: np.ndarray  # float64 (filters,)
    zeroed: np.ndarray  # int64 (points,)
    accuracy: Sequence[tuple[str, np.ndarray]]  # order -> float64 (points,)
    facts: str  # how they were measured


def common_reach(rows: Sequence[Sequence[Example]]) -> float:
    """Return the magnitude at the end of the colour scale of all examples."""
    return reach_of(*(example.weights for row in rows for example in row), percentile=99.9)


def draw_comparison(
    rows: Sequence[Sequence[Example]], filters: Filters | None, title: str, subtitle: str
) -> np.ndarray:
    """Draw examples as volumes on one scale, the filters' importance and their ablation.

    Args:
        rows: Correctly classified and missed images, one column per class.
        filters: Importance and ablation; None if not measured.
        title: Title of the picture.
        subtitle: Line below the title.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    columns = max(len(row) for row in rows)
    width = max(2, columns) * (_COLUMN + _MARGIN) + _MARGIN
    rest = _CHARTS + _MARGIN if filters is not None else 0
    heights = [_row_height(row) for row in rows]
    pixels = np.empty((_HEAD + sum(heights) + rest, width, 3), np.uint8)
    paint(pixels, BACKGROUND)
    canvas = Canvas(pixels)
    reach, least = common_reach(rows), _least_drawn(rows)
    _head(canvas, title, subtitle, reach, least)
    top = _HEAD
    for row, height in zip(rows, heights, strict=True):
        for column, example in enumerate(row):
            left = _MARGIN + column * (_COLUMN + _MARGIN)
            place = canvas.area(left, top, left + _COLUMN, top + height)
            _draw_example(place, example, reach, least)
        top += height
    if filters is not None:
        _draw_filters(canvas.area(0, canvas.height - rest, width, canvas.height), filters)
    return pixels


def draw_slices(
    rows: Sequence[Sequence[Example]], position: int, reach: float
) -> list[np.ndarray]:
    """Draw one kernel position for every example that has an image, one pixel per weight.

    Args:
        rows: As for ``draw_comparison``.
        position: Kernel position.
        reach: Magnitude at the end of the colour scale.

    Returns:
        uint8 (inputs, filters, 3) RGB each.
    """
    return [
        draw_slice(example.volume, position, reach)
        for row in rows for example in row if example.volume is not None
    ]


def _least_drawn(rows: Sequence[Sequence[Example]]) -> float:
    return reach_of(*(example.weights for row in rows for example in row), percentile=STRONG)


def _row_height(row: Sequence[Example]) -> int:
    if any(example.volume is not None for example in row):
        return _WORDS + _VOLUME
    return _NOTHING


def _head(canvas: Canvas, title: str, subtitle: str, reach: float, least: float) -> None:
    bar = 240
    room = canvas.width - bar - 4 * _MARGIN
    height = canvas.height_that_fits(title, room, 13, 9, bold=True)
    canvas.text(title, _MARGIN, 26, height, WHITE, bold=True, room=room)
    canvas.text(subtitle, _MARGIN, 46, 9, MUTED, room=room)
    drawn = f'cubes: the strongest {100 - STRONG:.0f} % of the weights, from {least:.2g} up'
    canvas.text(drawn, _MARGIN, 64, 8, MUTED, room=room)
    left = canvas.width - bar - _MARGIN
    draw_signed_bar(canvas, left, left + bar, 12, reach)
    canvas.text('d logit / d weight', left, 58, 8, MUTED)


def _draw_example(canvas: Canvas, example: Example, reach: float, least: float) -> None:
    left = 0.0
    if example.seen is not None:
        canvas.stamp(_thumbnail(example.seen), 0, 4)
        left = _THUMB + 10.0
    words = canvas.area(left, 0, canvas.width, _WORDS)
    words.text(example.heading, 0, 16, 10, WHITE, bold=True)
    words.text(example.says, 0, 33, 8, WHITE)
    words.text(example.figures, 0, 48, 8, WHITE)
    words.paragraph(example.reason, 0, 63, 8, MUTED, lines=2)
    if example.volume is None:
        return
    canvas.stamp(
        draw_volume(example.volume, reach, (_VOLUME, _COLUMN), least=least), 0, _WORDS
    )


def _thumbnail(seen: np.ndarray) -> np.ndarray:
    scale = _THUMB / max(seen.shape[:2])
    size = max(1, round(seen.shape[1] * scale)), max(1, round(seen.shape[0] * scale))
    return cv2.resize(
        seen, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )


def _draw_filters(canvas: Canvas, filters: Filters) -> None:
    half = (canvas.width - 3 * _MARGIN) / 2
    _draw_importance(canvas.area(_MARGIN, 0, _MARGIN + half, _CHARTS), filters.importance)
    left = 2 * _MARGIN + half
    lines = [
        Line(order, filters.zeroed.astype(float), accuracy, *style)
        for (order, accuracy), style in zip(filters.accuracy, _STYLES, strict=True)
    ]
    draw_lines(
        canvas.area(left, 0, left + half, _CHARTS), lines,
        title=f'accuracy without filters ({filters.facts})', x_label='filters zeroed',
        y_label='accuracy', y_range=(0.0, 1.0), percent=True,
    )


def _draw_importance(canvas: Canvas, importance: np.ndarray) -> None:
    """Draw a bar per filter, the most important one first, as many as fit."""
    ranked = np.argsort(-importance, kind='stable')[:_BARS]
    title = 'importance of the filters: mean |gradient x weight|'
    if len(ranked) < len(importance):
        title += f', the first {len(ranked)} of {len(importance)}'
    if not importance.any():
        title += ': 0, the logit does not depend on them'
    draw_bars(
        canvas, importance[ranked], [str(number) for number in ranked], title=title,
        x_label='filter',
    )
