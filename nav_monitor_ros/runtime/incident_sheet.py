"""Contact sheet of an incident: thumbnails of all frames with their verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import cv2
import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.incident_frames import RecordedFrame
from nav_monitor_ros.views.text import drawn_class, put_text, wrapped

_TILE = (160, 120)  # width and height of a picture on the sheet
_COLUMNS = 6
_LETTERS = 9  # height of capitals below them, pixels


def draw_sheet(
    frames: Sequence[RecordedFrame], raised: datetime, alert: Alert
) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3) RGB, with thumbnails of all frames and their verdicts.

    Args:
        frames: Frames, at least one, oldest first.
        raised: Time of the alert in UTC.
        alert: The alert that rose.
    """
    width, height = _TILE
    line, gap = 18, 8
    caption = 5 * line + 4
    columns = min(_COLUMNS, len(frames))
    rows = math.ceil(len(frames) / columns)
    sheet_width = columns * (width + gap) + gap
    heading = [
        part for text in _heading(frames[-1], raised, alert)
        for part in wrapped(text, sheet_width - 2 * gap, _LETTERS, 2)
    ]
    head = gap + len(heading) * line
    sheet = np.full(
        (head + rows * (height + caption + gap) + gap, sheet_width, 3), 255, np.uint8
    )
    for number, text in enumerate(heading):
        put_text(
            sheet, text, gap, gap + 12 + number * line, _LETTERS, (24, 26, 30),
            room=sheet_width - 2 * gap,
        )
    for number, frame in enumerate(frames):
        top = head + gap + number // columns * (height + caption + gap)
        left = gap + number % columns * (width + gap)
        scale = min(width / frame.image.width, height / frame.image.height)
        size = (
            max(1, round(frame.image.width * scale)), max(1, round(frame.image.height * scale))
        )
        small = DecodedImage(
            cv2.resize(frame.image.pixels, size, interpolation=cv2.INTER_AREA),
            frame.image.order,
        ).rgb()
        sheet[top:top + height, left:left + width] = 40
        y, x = top + (height - size[1]) // 2, left + (width - size[0]) // 2
        sheet[y:y + size[1], x:x + size[0]] = small
        seconds = frame.arrived - frames[-1].arrived
        ink = (213, 94, 0) if frame.verdict.is_ood else (0, 114, 178)
        for place, text in enumerate(_captions(frame, seconds)):
            put_text(
                sheet, text, left, top + height + 16 + place * line, _LETTERS,
                ink if place < 2 else (60, 60, 60), room=width,
            )
    return sheet


def _heading(last: RecordedFrame, raised: datetime, alert: Alert) -> tuple[str, ...]:
    """Return the reason of the alert and its time: the date, and the last image's stamp."""
    return (
        f'alert raised {raised:%Y-%m-%d %H:%M:%S} UTC: {alert.reason.value}',
        f'at stamp {last.stamp_ns / 1e9:.3f} s of the last image',
    )


def _captions(frame: RecordedFrame, seconds: float) -> tuple[str, ...]:
    """Return the lines below a thumbnail; those above the class name always fit."""
    verdict = frame.verdict
    kind = verdict.evidence_kind
    name = drawn_class(verdict.class_name.replace('_', ' '), verdict.class_index)
    return (
        f'{seconds:+.2f} s, p {verdict.p_value:.2g}',
        f'{"flagged" if verdict.is_ood else "not flagged"}, {frame.alert.state.value}',
        *([] if kind is None else [f'unusual: {kind.label}']),
        *wrapped(name, _TILE[0], _LETTERS, 2),
    )
