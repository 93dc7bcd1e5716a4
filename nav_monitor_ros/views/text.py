"""Text in pictures."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT = 21.0  # pixels of a capital letter at scale 1
_BOLD_FROM = 12  # pixels; bold strokes would fill smaller letters


def text_width(text: str, height: int, *, bold: bool = False) -> int:
    """Return the width in pixels of a line whose capitals are ``height`` pixels tall."""
    return cv2.getTextSize(_plain(text), FONT, height / _CAP_HEIGHT, _strokes(height, bold))[0][0]


def put_text(
    picture: np.ndarray,
    text: str,
    left: int,
    baseline: int,
    height: int,
    color: tuple[int, int, int],
    *,
    bold: bool = False,
    room: int | None = None,
) -> int:
    """Write one line.

    Args:
        picture: uint8 (H, W, 3), written on.
        text: What to write.
        left: First column, pixels.
        baseline: Row of the letters' feet, pixels.
        height: Of capital letters, pixels.
        color: RGB.
        bold: Thicker strokes.
        room: Columns there are; longer text ends in dots.

    Returns:
        The first column right of the text.
    """
    text = _plain(text)
    if room is not None:
        text = shortened(text, room, height, bold=bold)
    cv2.putText(
        picture, text, (left, baseline), FONT, height / _CAP_HEIGHT, color,
        _strokes(height, bold), cv2.LINE_AA,
    )
    return left + text_width(text, height, bold=bold)


@lru_cache(maxsize=512)
def shortened(text: str, room: int, height: int, *, bold: bool = False) -> str:
    """Return the text, cut and ended with dots where it is wider than ``room`` pixels."""
    if text_width(text, height, bold=bold) <= room:
        return text
    for length in range(len(text) - 1, 0, -1):
        candidate = text[:length].rstrip() + '...'
        if text_width(candidate, height, bold=bold) <= room:
            return candidate
    return ''


def _strokes(height: int, bold: bool) -> int:
    return 2 if bold and height >= _BOLD_FROM else 1


def _plain(text: str) -> str:
    """Return the text in the characters that OpenCV's fonts have."""
    return ''.join(c if ' ' <= c <= '~' else '?' for c in text)
