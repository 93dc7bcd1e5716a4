"""Overlay that explains the alarm: image, verdict and neurons."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert, State
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import (
    BACKGROUND,
    FAINT,
    MUTED,
    OF_STATE,
    ON_STATE,
    PANEL,
    WHITE,
    Color,
    paint,
)
from nav_monitor_ros.views.explanation import (
    draw_evidence_kind,
    draw_neurons,
    draw_patterns,
    draw_scores,
    p_text,
)
from nav_monitor_ros.views.text import drawn_class, placeholder

MIN_WIDTH = 560  # pixels; narrower pictures would not be legible
MAX_WIDTH = 3840  # pixels
DESIGN_WIDTH = 640  # pixels; wider pictures are enlarged, narrower ones have less room

# Lengths in design pixels.
_BANNER = 64
_MARGIN = 12
_SIDE = 0.54  # share of the width, for an image next to the scores
_PATTERNS = 164
_EVIDENCE = 372  # rows for the kind of evidence, scores and neurons
_WIDE = 1.85  # images with a larger ratio of width to height are above the scores
_LEAST_HEIGHT = 0.2  # share of the width, for an image above the scores


def draw_overlay(
    image: np.ndarray | None, verdict: Verdict | None, alert: Alert, *, width: int = 640
) -> np.ndarray:
    """Draw one frame with its verdict.

    A banner in the state's colour shows class, confidence, p-value, state and reason. Below it are
    the image, the expected and the actual pattern of the monitored neurons, what a flagged frame is
    unusual in, the p-value of every score, and the neurons that deviate most. A frame without a
    verdict is shown grey with the reason. The picture's size depends only on the width and the
    image's shape.

    Args:
        image: uint8 (H, W, 3) RGB, of any size; None without an image.
        verdict: Verdict on the frame; None if it could not be judged.
        alert: State of ``ood_alert`` at this frame.
        width: Width of the picture, pixels, kept between MIN_WIDTH and MAX_WIDTH.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    width = min(max(int(width), MIN_WIDTH), MAX_WIDTH)
    unit = max(1.0, width / DESIGN_WIDTH)
    pixels = None if image is None else _as_rgb(image)
    rows, columns = (3, 4) if pixels is None else pixels.shape[:2]
    beside = columns <= _WIDE * rows
    camera_width, camera_height = _camera_size(width / unit, rows, columns, beside)
    below = _BANNER + camera_height + 2 * _MARGIN
    height = below + (_PATTERNS if beside else _EVIDENCE) + _MARGIN
    if beside:
        height = max(height, _BANNER + _EVIDENCE + 2 * _MARGIN)
    picture = np.empty((round(height * unit), width, 3), np.uint8)
    paint(picture, BACKGROUND)
    canvas = Canvas(picture, unit)
    _banner(canvas.area(0, 0, canvas.width + 1, _BANNER), verdict, alert)
    _camera(canvas, pixels, verdict, alert, camera_width, camera_height)
    patterns_right = _MARGIN + camera_width if beside else canvas.width / 2 - _MARGIN / 2
    evidence_left = patterns_right + 1.5 * _MARGIN
    evidence_top = _BANNER + _MARGIN if beside else below
    patterns = canvas.area(_MARGIN, below, patterns_right, height - _MARGIN)
    evidence = canvas.area(evidence_left, evidence_top, canvas.width - _MARGIN, height - _MARGIN)
    if verdict is None:
        _no_verdict(patterns, evidence, alert)
        return picture
    draw_patterns(patterns, verdict.explanation)
    end = draw_evidence_kind(evidence, verdict)
    scores = evidence.area(0, end, evidence.width, 0.54 * evidence.height)
    end += draw_scores(scores, verdict)
    draw_neurons(
        evidence.area(0, end + 10, evidence.width, evidence.height), verdict.explanation
    )
    return picture


def _as_rgb(image: np.ndarray) -> np.ndarray | None:
    """Return the image as uint8 (H, W, 3); None if it has no pixels."""
    if image.ndim not in (2, 3) or not image.size:
        return None
    if image.dtype != np.uint8:
        image = np.clip(np.nan_to_num(image), 0, 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] < 3:
        image = np.repeat(image.reshape(*image.shape[:2], -1)[:, :, :1], 3, axis=2)
    return image[:, :, :3]


def _camera_size(width: float, rows: int, columns: int, beside: bool) -> tuple[int, int]:
    """Return the width and height of the image area, design pixels."""
    if beside:
        side = int(_SIDE * width)
        return side, round(side * min(1.0, rows / columns))
    whole = int(width) - 2 * _MARGIN
    return whole, round(whole * max(_LEAST_HEIGHT, rows / columns))


def _banner(canvas: Canvas, verdict: Verdict | None, alert: Alert) -> None:
    ink = ON_STATE[alert.state]
    paint(canvas.pixels, OF_STATE[alert.state])
    canvas.stamp(_icon(alert.state, canvas.real(40)), _MARGIN, 12)
    left, right = _MARGIN + 52, canvas.width - _MARGIN
    state_left = canvas.text_ending_at(alert.state.value, right, 29, 16, ink, bold=True)
    topic_left = canvas.text_ending_at(f'ood_alert: {alert.value}', right, 51, 9, ink)
    reason = alert.reason.value.replace('_', ' ')
    facts = f'{reason}: {alert.detail}' if alert.detail else reason
    room = state_left - left - _MARGIN
    if verdict is None:
        canvas.text('no verdict', left, 29, 16, ink, bold=True, room=room)
    else:
        _headline(canvas.area(left, 0, left + room, _BANNER), verdict, ink)
        facts = f'p = {p_text(verdict.p_value)}    {facts}'
    canvas.text(facts, left, 51, 10, ink, room=topic_left - left - _MARGIN)


def _headline(canvas: Canvas, verdict: Verdict, ink: Color) -> None:
    """Write the class and its confidence, as far as they fit."""
    name = drawn_class(verdict.class_name.replace('_', ' '), verdict.class_index)
    known = math.isfinite(verdict.confidence)
    percent = f'{100 * verdict.confidence:.0f} %' if known else 'unknown'
    confidence = f'confidence {percent}'
    wanted = canvas.text_width(name, 16, bold=True) + canvas.text_width(confidence, 10) + 14
    if wanted > canvas.width:
        confidence = percent
    room = canvas.width - canvas.text_width(confidence, 10) - 14
    end = canvas.text(name, 0, 29, 16, ink, bold=True, room=room)
    canvas.text(confidence, min(end, room) + 12, 29, 10, ink)


@lru_cache(maxsize=16)
def _icon(state: State, side: int) -> np.ndarray:
    """Return a disc with the state's sign on the state's colour, uint8 (side, side, 3)."""
    large = 8 * side
    icon = np.empty((large, large, 3), np.uint8)
    icon[:] = OF_STATE[state]
    cv2.circle(icon, (large // 2, large // 2), large // 2 - 4, ON_STATE[state], -1)
    stroke = large // 9
    for stroke_points in _SIGNS[state]:
        points = (np.array(stroke_points) * large).astype(np.int32)
        cv2.polylines(icon, [points], False, OF_STATE[state], stroke, cv2.LINE_AA)
    return cv2.resize(icon, (side, side), interpolation=cv2.INTER_AREA)


# Strokes of a tick, a question mark, an exclamation mark and a cross, over the disc's side.
_SIGNS: dict[State, tuple[tuple[tuple[float, float], ...], ...]] = {
    State.OK: (((0.27, 0.52), (0.44, 0.68), (0.73, 0.34)),),
    State.SUSPECT: (
        ((0.35, 0.36), (0.39, 0.27), (0.5, 0.23), (0.61, 0.27), (0.65, 0.36), (0.61, 0.45),
         (0.5, 0.52), (0.5, 0.6)),
        ((0.5, 0.77), (0.5, 0.775)),
    ),
    State.OOD: (((0.5, 0.22), (0.5, 0.58)), ((0.5, 0.76), (0.5, 0.765))),
    State.INVALID: (((0.33, 0.33), (0.67, 0.67)), ((0.67, 0.33), (0.33, 0.67))),
}  # fmt: skip


def _camera(
    canvas: Canvas,
    pixels: np.ndarray | None,
    verdict: Verdict | None,
    alert: Alert,
    width: int,
    height: int,
) -> None:
    """Draw the image, framed in the state's colour unless it is OK."""
    top = _BANNER + _MARGIN
    if alert.state is not State.OK:
        canvas.frame(
            _MARGIN - 4, top - 4, _MARGIN + width + 4, top + height + 4, 4, OF_STATE[alert.state]
        )
    place = canvas.area(_MARGIN, top, _MARGIN + width, top + height)
    if pixels is None or (verdict is None and not pixels.any()):
        text = 'no image' if pixels is None else 'no image, or a black one'
        place.pixels[:] = placeholder(place.pixels.shape[:2], text)
        return
    place.pixels[:] = 0
    _fit(place.pixels, pixels)
    if verdict is None:
        gray = cv2.cvtColor(place.pixels, cv2.COLOR_RGB2GRAY) // 2
        place.pixels[:] = gray[:, :, None]
        plate = place.area(0, place.height - 24, place.width + 1, place.height + 1)
        paint(plate.pixels, PANEL)
        plate.text('last image received', 8, 16, 9, WHITE)


def _fit(place: np.ndarray, pixels: np.ndarray) -> None:
    """Draw the image, scaled proportionally, in the centre of its area."""
    rows, columns = pixels.shape[:2]
    ratio = min(place.shape[1] / columns, place.shape[0] / rows)
    size = max(1, round(columns * ratio)), max(1, round(rows * ratio))
    if ratio >= 2:
        method = cv2.INTER_NEAREST
    elif ratio > 0.5:
        method = cv2.INTER_LINEAR
    else:
        method = cv2.INTER_AREA
        # Averaging all pixels of a large image would cost more than everything else.
        step = int(0.5 / ratio)
        pixels = np.ascontiguousarray(pixels[::step, ::step])
    scaled = cv2.resize(pixels, size, interpolation=method)
    top, left = (place.shape[0] - size[1]) // 2, (place.shape[1] - size[0]) // 2
    place[top : top + size[1], left : left + size[0]] = scaled


def _no_verdict(patterns: Canvas, evidence: Canvas, alert: Alert) -> None:
    patterns.text('No neuron pattern: there is no current verdict', 0, 12, 9, MUTED)
    evidence.text('No current verdict', 0, 14, 11, WHITE, bold=True)
    reason = alert.reason.value.replace('_', ' ')
    evidence.text(f'reason: {reason}', 0, 40, 10, WHITE)
    end = evidence.paragraph(alert.detail, 0, 62, 9, MUTED, lines=8)
    evidence.fill(0, end, evidence.width, end + 1, FAINT)
    said = 'do not trust perception' if alert.value else 'perception may be trusted'
    evidence.paragraph(f'ood_alert is {alert.value}: {said}.', 0, end + 24, 9, WHITE, lines=3)
