"""Frames of a training: the gradient of one image, with the loss and the logit so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import BACKGROUND, ORANGE, SKY, paint
from nav_monitor_ros.views.gradients.line_charts import Line, draw_lines
from nav_monitor_ros.views.gradients.panels import Panel, draw_panels, gradient_panels

SIDE = 250  # default side of a panel, pixels
_CHARTS = 190  # rows of the charts
_MARGIN = 14


@dataclass(frozen=True)
class Moment:
    """The network after some training steps."""

    step: int
    loss: float
    logit: float
    probability: float
    gradient: np.ndarray  # float (1 or 3, h, w), of gray or of red, green and blue


def draw_moments(
    moments: Sequence[Moment],
    seen: np.ndarray,
    title: str,
    target: str,
    note: str = '',
    *,
    side: int = SIDE,
) -> list[np.ndarray]:
    """Draw a training as pictures of one size.

    Every picture has its own colour scale, whose ends are written below it: gradients grow a
    thousandfold in training, and on a common scale the early ones would be blank.

    Args:
        moments: At least one moment.
        seen: Input of the network, uint8 (h, w, 3) RGB.
        title: Title of every picture.
        target: Name of the class whose logit is differentiated.
        note: Problem with the training, for the last picture.
        side: Side of a panel, pixels.

    Returns:
        uint8 (H, W, 3) RGB each.
    """
    pictures = []
    for number, moment in enumerate(moments):
        last = number == len(moments) - 1
        panels = [
            Panel('input of the network', seen, note='' if not last else note),
            *gradient_panels(moment.gradient, 'gradient', f'd logit {target} / d input'),
        ]
        figures = (
            f'step {moment.step} of {moments[-1].step}: loss {moment.loss:.4g}, '
            f'logit {moment.logit:+.4g}, probability {moment.probability:.1%}'
        )
        top = draw_panels([panels], title, figures, side=side)
        pictures.append(np.concatenate([top, _charts(moments, moment, top.shape[1])]))
    return pictures


def _charts(moments: Sequence[Moment], now: Moment, width: int) -> np.ndarray:
    pixels = np.empty((_CHARTS + _MARGIN, width, 3), np.uint8)
    paint(pixels, BACKGROUND)
    canvas = Canvas(pixels)
    half = (width - 3 * _MARGIN) / 2
    steps = np.array([moment.step for moment in moments], float)
    curves = (
        ('loss', 'cross entropy', [moment.loss for moment in moments], ORANGE),
        ('logit', 'of the class', [moment.logit for moment in moments], SKY),
    )
    for number, (name, label, values, color) in enumerate(curves):
        left = _MARGIN + number * (half + _MARGIN)
        draw_lines(
            canvas.area(left, 0, left + half, _CHARTS),
            [Line(name, steps, np.array(values, float), color)],
            title=name, x_label='training steps', y_label=label, mark=float(now.step),
        )
    return pixels
