"""Panels that explain one image side by side: the network's input and its attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import (
    BACKGROUND,
    HIGHEST,
    LOWEST,
    MUTED,
    ORANGE,
    WHITE,
    level_table,
    paint,
)
from nav_monitor_ros.views.gradients.signed_colors import (
    channel_colors,
    draw_signed_bar,
    hatched,
    reach_of,
    signed_colors,
)

SALIENCY_PERCENTILE = 99.0  # percentile at which saliency is clipped
SIDE = 300  # default side of a panel's picture, pixels

_MARGIN = 14
_HEAD = 52  # rows of the title
_CAPTION = 24  # rows above a panel's picture
_FOOT = 72  # rows below it


@dataclass(frozen=True)
class Panel:
    """One picture with its title, legend and facts."""

    title: str
    pixels: np.ndarray  # uint8 (h, w, 3) RGB
    facts: str = ''
    note: str = ''  # problem with it, such as NaN
    legend: str = ''  # signed, channels or magnitude; '' for none
    reach: float = 0.0  # magnitude at the end of the colour scale


def input_panel(pixels: np.ndarray, title: str, facts: str) -> Panel:
    """Return the network's input, uint8 (h, w, 3) RGB, as a panel."""
    return Panel(title, pixels, facts)


def gradient_panels(
    values: np.ndarray, title: str, facts: str, *, reach: float | None = None
) -> list[Panel]:
    """Return a signed attribution as panels: by colour, and summed over the colours.

    Args:
        values: float (1 or 3, h, w), of gray or of red, green and blue.
        title: Title of the panels.
        facts: Facts on how it was made.
        reach: Magnitude at the end of the colour scale; by default a high percentile of the values.

    Returns:
        One panel for a gray image, else two.
    """
    broken = ~np.isfinite(values)
    # Adding over channels keeps 0 at 0, and one scale for both panels would hide one of them.
    summed = np.where(broken, 0, values).sum(0)
    panels = []
    if len(values) == 3:
        own = reach_of(values) if reach is None else reach
        colors = channel_colors(np.where(broken, 0, values).transpose(1, 2, 0), own)
        panels.append(
            Panel(f'{title}, by colour', hatched(colors, broken.any(0)), facts,
                  _note(values, own), 'channels', own)
        )
        title = f'{title}, summed'
    own = reach_of(summed) if reach is None else reach
    colors = hatched(signed_colors(summed, own), broken.any(0))
    panels.append(Panel(title, colors, facts, _note(values, own), 'signed', own))
    return panels


def saliency_panel(values: np.ndarray, title: str, facts: str) -> Panel:
    """Return the sum over channels of absolute values, clipped at their 99th percentile.

    Args:
        values: float (channels, h, w).
        title: Title of the panel.
        facts: Facts on how it was made.
    """
    broken = ~np.isfinite(values).all(0)
    saliency, top = clipped_saliency(values)
    levels = (LOWEST + saliency * (HIGHEST - LOWEST)).round().astype(int)
    colors = hatched(level_table('inferno')[levels], broken)
    return Panel(title, colors, facts, _note(values, top), 'magnitude', top)


def clipped_saliency(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the sum of absolute values over channels, clipped at its 99th percentile.

    Args:
        values: float (channels, h, w); values that are not finite count as 0.

    Returns:
        float64 (h, w) from 0 to 1, as a share of the second, the clipping value. It is the largest
        value if the percentile is 0, and 0 if all values are.
    """
    magnitudes = np.abs(np.where(np.isfinite(values), values, 0)).sum(0, dtype=np.float64)
    top = float(np.percentile(magnitudes, SALIENCY_PERCENTILE)) or float(magnitudes.max())
    if not top:
        return np.zeros_like(magnitudes), 0.0
    return np.minimum(magnitudes / top, 1.0), top


def blended(pixels: np.ndarray, panel: Panel, share: float = 0.6) -> Panel:
    """Return a panel blended with its image in gray.

    Args:
        pixels: Input of the network, uint8 (h, w, 3) RGB.
        panel: Panel of the same size.
        share: Opacity of the panel, 0 to 1.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[:, :, None]
    mixed = share * panel.pixels + (1 - share) * gray
    return Panel(
        panel.title, mixed.round().astype(np.uint8), panel.facts, panel.note, panel.legend,
        panel.reach,
    )


def draw_panels(
    rows: Sequence[Sequence[Panel]], title: str, subtitle: str, *, side: int = SIDE
) -> np.ndarray:
    """Draw panels in rows, each with its title, legend and facts.

    Args:
        rows: Panels side by side; at least one.
        title: Title of the whole picture.
        subtitle: Below it.
        side: Columns of a panel, and the longer side of its picture, pixels.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    columns = max(len(row) for row in rows)
    heights = [max(_shown_size(panel.pixels, side)[0] for panel in row) for row in rows]
    pitch = side + _MARGIN
    width = max(2, columns) * pitch + _MARGIN
    pixels = np.empty(
        (_HEAD + sum(height + _CAPTION + _FOOT for height in heights), width, 3), np.uint8
    )
    paint(pixels, BACKGROUND)
    canvas = Canvas(pixels)
    canvas.text(title, _MARGIN, 24, 13, WHITE, bold=True, room=width - 2 * _MARGIN)
    canvas.text(subtitle, _MARGIN, 43, 9, MUTED, room=width - 2 * _MARGIN)
    top = _HEAD
    for row, height in zip(rows, heights, strict=True):
        bottom = top + _CAPTION + height + _FOOT
        for number, panel in enumerate(row):
            left = _MARGIN + number * pitch
            _draw_panel(canvas.area(left, top, left + side, bottom), panel, height)
        top = bottom
    return pixels


def _draw_panel(canvas: Canvas, panel: Panel, height: int) -> None:
    side = canvas.width
    canvas.text(panel.title, 0, 15, 10, WHITE, bold=True)
    size = _shown_size(panel.pixels, side)
    shown = cv2.resize(panel.pixels, size[::-1], interpolation=_interpolation(panel.pixels, size))
    canvas.stamp(shown, (side - size[1]) / 2, _CAPTION + (height - size[0]) / 2)
    below = _CAPTION + height + 8.0
    if panel.legend == 'magnitude':
        _magnitude_bar(canvas, below, panel.reach)
    elif panel.legend:
        draw_signed_bar(canvas, 0, side, below, panel.reach)
    if panel.legend == 'channels':
        _channels_bar(canvas, below)
    if panel.legend:
        below += 30
    lines = 1 if panel.note else 2
    below = canvas.paragraph(panel.facts, 0, below + 12, 8, MUTED, lines=lines)
    if panel.note:
        canvas.text(panel.note, 0, below, 8, ORANGE)


def _shown_size(pixels: np.ndarray, side: int) -> tuple[int, int]:
    """Return the rows and columns of a picture in its panel."""
    rows, columns = pixels.shape[:2]
    scale = side / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def _interpolation(pixels: np.ndarray, size: tuple[int, int]) -> int:
    if size[0] < pixels.shape[0]:
        return cv2.INTER_AREA
    return cv2.INTER_NEAREST if size[0] >= 4 * pixels.shape[0] else cv2.INTER_LINEAR


def _note(values: np.ndarray, reach: float) -> str:
    broken = int((~np.isfinite(values)).sum())
    if broken:
        return f'hatched: {broken} of {values.size} values are NaN or infinite'
    return '' if reach else '0 everywhere: the logit does not depend on it'


def _channels_bar(canvas: Canvas, top: float) -> None:
    """Draw the range of each colour, red above green above blue, over the signed colours."""
    for channel in range(3):
        rows = top + 14 * channel / 3, top + 14 * (channel + 1) / 3
        ramp = canvas.area(0, rows[0], canvas.width, rows[1]).pixels
        ramp[:] = 128
        ramp[:, :, channel] = np.linspace(1, 255, ramp.shape[1]).round()


def _magnitude_bar(canvas: Canvas, top: float, reach: float) -> None:
    ramp = canvas.area(0, top, canvas.width, top + 14).pixels
    ramp[:] = level_table('inferno')[
        np.linspace(LOWEST, HIGHEST, ramp.shape[1]).round().astype(int)
    ]
    if not reach:
        canvas.text('0 everywhere', 0, top + 28, 8, ORANGE)
        return
    canvas.text('0', 0, top + 28, 8, MUTED)
    canvas.text_ending_at(f'{reach:.2g} and above', canvas.width, top + 28, 8, MUTED)
