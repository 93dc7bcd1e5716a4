"""Text in pictures: letters of OpenCV's stroke font, drawn large, downscaled and cached."""

from __future__ import annotations

import math
import unicodedata
from functools import lru_cache

import cv2
import numpy as np

from nav_monitor_ros.views.colors import PANEL, WHITE, Color, paint

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT = 21.0  # pixels of a capital letter at font scale 1
_OVERSAMPLING = 8
_STROKE, _BOLD_STROKE = 0.12, 0.19  # ratio of stroke width to the height of capitals
_WORD_SPACE = 0.75  # letter spacing relative to that of the font, which is made for plotters
_ELLIPSIS = '...'
# Letters of class names that are not decomposed into a base letter and an accent.
_SPELLED_OUT = str.maketrans(
    {'ß': 'ss', 'ø': 'o', 'Ø': 'O', 'æ': 'ae', 'Æ': 'AE', 'ł': 'l', '–': '-', '—': '-', '’': "'"}
)


@lru_cache(maxsize=2048)
def text_width(text: str, height: int, *, bold: bool = False) -> int:
    """Return the width in pixels of a line whose capitals are ``height`` pixels tall."""
    return sum(_advance(character, height, bold) for character in _drawable(text))


def put_text(
    picture: np.ndarray,
    text: str,
    left: int,
    baseline: int,
    height: int,
    color: Color,
    *,
    bold: bool = False,
    room: int | None = None,
) -> int:
    """Write one line, clipped to the picture.

    Args:
        picture: uint8 (H, W, 3), modified in place.
        text: Text to write. Accents are dropped, and characters missing in the font become ``?``.
        left: First column, pixels.
        baseline: Row of the baseline, pixels.
        height: Height of capital letters, pixels.
        color: RGB.
        bold: Thicker strokes.
        room: Available columns; longer text is cut and ends in dots.

    Returns:
        The first column right of the text.
    """
    if room is not None:
        text = shortened(text, room, height, bold=bold)
    ink, paper = _line(text, height, bold, color)
    top, left_edge = baseline - _ascent(height), left - _padding(height)
    region = picture[
        max(0, top) : max(0, top + ink.shape[0]),
        max(0, left_edge) : max(0, left_edge + ink.shape[1]),
    ]
    if region.size:
        rows, columns = max(0, -top), max(0, -left_edge)
        inside = slice(rows, rows + region.shape[0]), slice(columns, columns + region.shape[1])
        blended = region * paper[inside]
        blended += ink[inside]
        blended >>= 8
        region[:] = blended
    return left + text_width(text, height, bold=bold)


@lru_cache(maxsize=1024)
def shortened(text: str, room: int, height: int, *, bold: bool = False) -> str:
    """Return the text, cut and ended with dots if it is wider than ``room`` pixels."""
    if text_width(text, height, bold=bold) <= room:
        return text
    for length in range(len(text) - 1, 0, -1):
        candidate = text[:length].rstrip() + _ELLIPSIS
        if text_width(candidate, height, bold=bold) <= room:
            return candidate
    return ''


@lru_cache(maxsize=256)
def wrapped(text: str, room: int, height: int, lines: int) -> tuple[str, ...]:
    """Return the text in lines that fit.

    Args:
        text: Words; a word wider than a line is cut.
        room: Width of a line, pixels.
        height: Height of capital letters, pixels.
        lines: Largest number of lines; the last one ends in dots if that is too few.
    """
    found: list[str] = []
    words = text.split()
    while words and len(found) < lines:
        count = len(words)
        if len(found) < lines - 1:
            while count > 1 and text_width(' '.join(words[:count]), height) > room:
                count -= 1
        found.append(shortened(' '.join(words[:count]), room, height))
        words = words[count:]
    return tuple(found)


def drawn_class(name: str, index: int) -> str:
    """Return the name of a class for pictures: its number if the font lacks characters."""
    drawn = _drawable(name)
    return f'class {index}' if drawn.count('?') > name.count('?') else name


def placeholder(size: tuple[int, int], text: str) -> np.ndarray:
    """Return a dark picture with the reason why there is nothing to show.

    Args:
        size: Height and width, pixels; less than 1 counts as 1.
        text: The reason, in a few words.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    rows, columns = max(1, size[0]), max(1, size[1])
    picture = np.empty((rows, columns, 3), np.uint8)
    paint(picture, PANEL)
    height = min(max(9, columns // 45), 48)
    lines = wrapped(text, columns - 2 * height, height, 4)
    baseline = (rows - (2 * len(lines) - 1) * height) // 2 + height
    for line in lines:
        left = (columns - text_width(line, height)) // 2
        put_text(picture, line, left, baseline, height, WHITE)
        baseline += 2 * height
    return picture


@lru_cache(maxsize=256)
def _line(
    text: str, height: int, bold: bool, color: Color
) -> tuple[np.ndarray, np.ndarray]:
    """Return a line as the colour that its ink adds and the share of the picture that remains.

    Both are uint16 (rows, columns, 3), 256 times the colour and the share.
    """
    padding = _padding(height)
    mask = np.zeros(
        (_ascent(height) + _descent(height), text_width(text, height, bold=bold) + 2 * padding),
        np.uint8,
    )
    left = 0
    for character in _drawable(text):
        glyph = _glyph(character, height, bold)
        place = mask[:, left : left + glyph.shape[1]]
        np.maximum(place, glyph, out=place)
        left += glyph.shape[1] - 2 * padding
    share = mask.astype(np.uint16)[:, :, None].repeat(3, axis=2)
    share += share >> np.uint16(7)  # 0 .. 256
    return share * np.array(color, np.uint16), 256 - share


@lru_cache(maxsize=2048)
def _glyph(character: str, height: int, bold: bool) -> np.ndarray:
    """Return the ink of one letter, uint8 (rows, advance + padding on both sides)."""
    columns = _advance(character, height, bold) + 2 * _padding(height)
    large = np.zeros(
        ((_ascent(height) + _descent(height)) * _OVERSAMPLING, columns * _OVERSAMPLING), np.uint8
    )
    share = _BOLD_STROKE if bold else _STROKE
    stroke = max(1.0, share * height) * _OVERSAMPLING
    # The letter is centred on the rounded advance, which may be narrower than its own.
    spare = _advance(character, height, bold) - _exact_advance(character, height, bold)
    origin = round((_padding(height) + spare / 2) * _OVERSAMPLING)
    cv2.putText(
        large,
        character,
        (origin, _ascent(height) * _OVERSAMPLING),
        _FONT,
        _OVERSAMPLING * height / _CAP_HEIGHT,
        255,
        round(stroke),
        cv2.LINE_AA,
    )
    size = columns, _ascent(height) + _descent(height)
    return cv2.resize(large, size, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=2048)
def _advance(character: str, height: int, bold: bool) -> int:
    """Return the advance of a letter, pixels; an integer, so that letters can be cached."""
    return max(1, round(_exact_advance(character, height, bold)))


def _exact_advance(character: str, height: int, bold: bool) -> float:
    scale = _OVERSAMPLING * height / _CAP_HEIGHT
    # The difference is the advance alone: the size of a text also includes its stroke width.
    one, two = (
        cv2.getTextSize(character * count, _FONT, scale, 1)[0][0] for count in (1, 2)
    )
    exact = (two - one) / _OVERSAMPLING
    if character == ' ':
        return _WORD_SPACE * exact
    return exact + (0.06 * height if bold else 0.0)


def _ascent(height: int) -> int:
    """Return the height above the baseline that a line may use, pixels."""
    return math.ceil(1.3 * height) + 1


def _descent(height: int) -> int:
    return math.ceil(0.5 * height) + 1


def _padding(height: int) -> int:
    """Return the columns that strokes may reach beyond a letter's advance, pixels."""
    return math.ceil(0.2 * height)


@lru_cache(maxsize=2048)
def _drawable(text: str) -> str:
    """Return the text in the characters of the font."""
    decomposed = unicodedata.normalize('NFKD', text.translate(_SPELLED_OUT))
    return ''.join(
        character if ' ' <= character <= '~' else '?'
        for character in decomposed
        if not unicodedata.combining(character)
    )
