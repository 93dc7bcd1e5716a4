"""The picture that explains the alarm: image, verdict, and what the neurons did."""

from __future__ import annotations

import math

import cv2
import numpy as np

from nav_monitor_ros.decision.verdict import Alert, Explanation, State, Verdict
from nav_monitor_ros.views.colors import (
    BACKGROUND,
    BLUE,
    FAINT,
    MUTED,
    OF_STATE,
    ORANGE,
    PANEL,
    VERMILLION,
    WHITE,
)
from nav_monitor_ros.views.text import put_text, text_width

MIN_WIDTH = 320  # pixels; narrower pictures would not be legible
_BANNER = 66  # rows of the banner, pixels
_PANEL = 224  # rows of the panel below the image, pixels
_MARGIN = 12  # pixels
_DECADES = 4.0  # range of the p-value bars, powers of ten
_LARGEST_Z = 10.0  # range of the z-score bars, standard deviations
_SYMBOLS = {State.OK: '', State.SUSPECT: '? ', State.OOD: '! ', State.INVALID: 'X '}


def draw_overlay(
    image: np.ndarray, verdict: Verdict | None, alert: Alert, *, width: int = 640
) -> np.ndarray:
    """Draw one frame with its verdict.

    From top to bottom: a banner with class, confidence, state, reason and p-value; the image; a
    panel with the pattern of the monitored neurons, as the nearest stored one has it and as it is,
    the neurons that deviate most, and every score's p-value against its threshold.

    Args:
        image: uint8 (H, W, 3) RGB, of any size.
        verdict: The frame's; None where nothing could be judged.
        alert: What ``ood_alert`` says at this frame.
        width: Of the picture, pixels, at least ``MIN_WIDTH``.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    width = max(width, MIN_WIDTH)
    camera = _camera_picture(image, width)
    height = camera.shape[0]
    picture = np.empty((_BANNER + height + _PANEL, width, 3), np.uint8)
    picture[:] = BACKGROUND
    _banner(picture[:_BANNER], verdict, alert)
    picture[_BANNER : _BANNER + height] = camera
    color = OF_STATE[alert.state]
    if alert.value:
        cv2.rectangle(picture, (2, _BANNER), (width - 3, _BANNER + height - 1), color, 5)
    panel = picture[_BANNER + height :]
    if verdict is None:
        _note(panel, 'no verdict on this image', alert.detail)
    else:
        half = (width * 47) // 100
        _pattern_panel(panel[:, :half], verdict.explanation)
        _score_panel(panel[:, half:], verdict)
    return picture


def _camera_picture(image: np.ndarray, width: int) -> np.ndarray:
    """Return the image in a frame of the picture's width and a moderate height."""
    rows, columns = image.shape[:2]
    height = int(np.clip(round(width * rows / columns), width // 4, width))
    ratio = min(width / columns, height / rows)
    size = max(1, round(columns * ratio)), max(1, round(rows * ratio))
    if ratio < 1:
        method = cv2.INTER_AREA
    else:
        method = cv2.INTER_NEAREST if ratio > 3 else cv2.INTER_LINEAR
    scaled = image if size == (columns, rows) else cv2.resize(image, size, interpolation=method)
    frame = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    frame[top : top + size[1], left : left + size[0]] = scaled
    return frame


def _banner(banner: np.ndarray, verdict: Verdict | None, alert: Alert) -> None:
    banner[:] = OF_STATE[alert.state]
    # White on orange would be too faint to read.
    ink = BACKGROUND if alert.state is State.SUSPECT else WHITE
    width = banner.shape[1]
    state = _SYMBOLS[alert.state] + alert.state.value
    state_left = width - _MARGIN - text_width(state, 15, bold=True)
    put_text(banner, state, state_left, 28, 15, ink, bold=True)
    reason = alert.reason.value.replace('_', ' ')
    put_text(
        banner, reason, width - _MARGIN - text_width(reason, 10), 52, 10, ink
    )
    room = state_left - 2 * _MARGIN
    if verdict is None:
        headline, facts = 'do not trust perception', alert.detail
    else:
        headline = f'{verdict.class_name}  {100 * verdict.confidence:.0f} %'
        facts = f'p = {_p_text(verdict.p_value)}, {verdict.decisive} score'
        facts += f'; most unusual: {verdict.fired}' if verdict.is_ood else ''
    put_text(banner, headline, _MARGIN, 28, 15, ink, bold=True, room=room)
    reason_left = width - _MARGIN - text_width(reason, 10)
    put_text(banner, facts, _MARGIN, 52, 10, ink, room=reason_left - 2 * _MARGIN)


def _pattern_panel(panel: np.ndarray, explanation: Explanation | None) -> None:
    if explanation is None:
        _note(panel, 'no pattern score in this bundle', '')
        return
    width = panel.shape[1]
    differing = explanation.pattern != explanation.nearest
    put_text(panel, 'Neurons on (light) and off (dark)', _MARGIN, 20, 9, MUTED, room=width - 12)
    half = (width - 3 * _MARGIN) // 2
    columns, cell = _grid_layout(len(explanation.pattern), half, 130)
    for place, (title, bits) in enumerate(
        (('nearest in training', explanation.nearest), ('this frame', explanation.pattern))
    ):
        left = _MARGIN + place * (half + _MARGIN)
        put_text(panel, title, left, 40, 9, WHITE, room=half)
        grid = _bit_grid(bits, differing, explanation.monitored, columns, cell)
        panel[50 : 50 + grid.shape[0], left : left + grid.shape[1]] = grid
    counted = int(explanation.monitored.sum())
    summary = f'{int(differing.sum())} of {counted} differ'
    put_text(panel, summary, _MARGIN, panel.shape[0] - 12, 10, WHITE, room=width - 2 * _MARGIN)


def _grid_layout(count: int, width: int, height: int) -> tuple[int, int]:
    """Return the number of columns and the cells' side in pixels, as large as room allows."""
    for cell in range(24, 1, -1):
        columns = width // cell
        if columns and math.ceil(count / columns) * cell <= height:
            return columns, cell
    return max(1, width), 1


def _bit_grid(
    bits: np.ndarray, differing: np.ndarray, monitored: np.ndarray, columns: int, cell: int
) -> np.ndarray:
    """Draw bits as cells; those that differ are vermillion, hollow where off."""
    rows = math.ceil(len(bits) / columns)
    colors = np.array([(64, 68, 76), (196, 200, 208), (46, 49, 55), VERMILLION], np.uint8)
    kinds = np.where(monitored, bits.astype(int), 2)
    kinds[differing] = 3
    flat = np.empty((rows * columns, 3), np.uint8)
    flat[:] = BACKGROUND
    flat[: len(bits)] = colors[kinds]
    grid = flat.reshape(rows, columns, 3).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= 5:
        hollow = np.zeros(rows * columns, bool)
        hollow[: len(bits)] = differing & ~bits
        mask = hollow.reshape(rows, columns).repeat(cell, axis=0).repeat(cell, axis=1)
        inside = np.zeros((cell, cell), bool)
        inside[2 : cell - 2 - (cell > 3), 2 : cell - 2 - (cell > 3)] = True
        grid[mask & np.tile(inside, (rows, columns))] = BACKGROUND
    if cell >= 3:
        grid[cell - 1 :: cell] = BACKGROUND
        grid[:, cell - 1 :: cell] = BACKGROUND
    return grid[:140]


def _score_panel(panel: np.ndarray, verdict: Verdict) -> None:
    width = panel.shape[1]
    put_text(panel, 'How unusual (p-value, tick: threshold)', 0, 20, 9, MUTED, room=width)
    names = [verdict.decisive, *(name for name in verdict.scores if name != verdict.decisive)]
    label = min(104, width // 3)
    bar_left, bar_right = label, width - 74
    row = 32
    for name in names[:6]:
        value = verdict.scores[name].p_value
        flagged = name == verdict.decisive and verdict.is_ood
        put_text(
            panel, name, 0, row + 9, 9, WHITE, bold=name == verdict.decisive, room=label - 6
        )
        _bar(
            panel, row, bar_left, bar_right,
            _share(-math.log10(value) if value > 0 else math.nan, _DECADES),
            VERMILLION if flagged else BLUE,
        )
        if name == verdict.decisive and verdict.threshold > 0:
            share = _share(-math.log10(verdict.threshold), _DECADES)
            tick = bar_left + round(share * (bar_right - bar_left))
            cv2.line(panel, (tick, row - 3), (tick, row + 12), WHITE, 2)
        put_text(panel, _p_text(value), bar_right + 8, row + 9, 9, WHITE, room=66)
        row += 16
    if verdict.explanation is not None:
        _neuron_rows(panel, verdict.explanation, row + 14, bar_left, bar_right)


def _neuron_rows(
    panel: np.ndarray, explanation: Explanation, row: int, left: int, right: int
) -> None:
    put_text(
        panel, 'Most deviating neurons (z-score)', 0, row, 9, MUTED, room=panel.shape[1]
    )
    row += 12
    for neuron in explanation.neurons:
        if row + 12 > panel.shape[0]:
            return
        changed = neuron.bit != neuron.expected_bit
        put_text(panel, f'{neuron.index}', 0, row + 9, 9, WHITE, room=left - 6)
        _bar(
            panel, row, left, right, _share(abs(neuron.z), _LARGEST_Z),
            ORANGE if changed else FAINT,
        )
        put_text(panel, f'{neuron.z:+.1f}', right + 8, row + 9, 9, WHITE, room=66)
        row += 16


def _bar(
    panel: np.ndarray, row: int, left: int, right: int, share: float,
    color: tuple[int, int, int],
) -> None:
    panel[row : row + 10, left:right] = PANEL
    panel[row : row + 10, left : left + round(share * (right - left))] = color


def _share(value: float, whole: float) -> float:
    """Return value / whole within [0, 1]; 1 where the value is no number."""
    return 1.0 if math.isnan(value) else min(1.0, max(0.0, value / whole))


def _note(panel: np.ndarray, headline: str, detail: str) -> None:
    put_text(panel, headline, _MARGIN, 34, 12, WHITE, room=panel.shape[1] - 2 * _MARGIN)
    put_text(panel, detail, _MARGIN, 60, 10, MUTED, room=panel.shape[1] - 2 * _MARGIN)


def _p_text(p_value: float) -> str:
    return f'{p_value:.2f}' if p_value >= 0.1 else f'{p_value:.2g}'
