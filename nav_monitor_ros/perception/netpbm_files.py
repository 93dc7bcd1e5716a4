"""Netpbm files (PBM, PGM, PPM), with samples of any ``maxval`` scaled to 8 bits.

OpenCV does not scale the samples of a binary file, so that a 10-bit PGM would be black.
"""

from __future__ import annotations

import re

import numpy as np

from nav_monitor_ros.perception.decoded_image import ImageError

SIGNATURES = tuple(b'P%d' % number for number in range(1, 7))

_BITMAPS = b'14'  # formats without maxval
_COLORS = b'36'
_TEXT = b'123'
_GAP = rb'(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])'  # a comment extends to the end of its line
_NUMBER = _GAP + rb'+(\d{1,10})'
_SIZE = re.compile(rb'P([1-6])' + 2 * _NUMBER)
_MAXVAL = re.compile(_NUMBER)
_COMMENT = re.compile(rb'#[^\r\n]*')


def decode_netpbm(encoded: bytes, *, max_pixels: int) -> np.ndarray:
    """Return the pixels of a PBM, PGM or PPM file.

    A sample becomes ``round(sample * 255 / maxval)``, as in Pillow; of full 16-bit samples (maxval
    65535), the upper 8 bits are kept, as in messages. A sample above maxval counts as maxval.

    Args:
        encoded: The whole file, in binary (P4, P5, P6) or plain text (P1, P2, P3).
        max_pixels: Largest accepted ``width * height``.

    Returns:
        uint8 (H, W, 3) BGR, with three equal channels for PBM and PGM.

    Raises:
        ImageError: The header is malformed, the file is truncated, empty or too large.
    """
    found = _SIZE.match(encoded)
    if found is None:
        raise ImageError(f'Netpbm header is truncated or corrupt ({len(encoded)} bytes)')
    kind, width, height = found[1], int(found[2]), int(found[3])
    place, maxval = found.end(), 1
    if kind not in _BITMAPS:
        found = _MAXVAL.match(encoded, place)
        if found is None:
            raise ImageError(f'Netpbm header is truncated or corrupt ({len(encoded)} bytes)')
        place, maxval = found.end(), int(found[1])
        if not 1 <= maxval <= 65535:
            raise ImageError(f'Netpbm header is corrupt: maxval {maxval} is not 1 to 65535')
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ImageError(f'Netpbm image of {width} x {height} pixels is empty or too large')
    channels = 3 if kind in _COLORS else 1
    shape = height, width, channels
    # In a binary file, one white-space character separates the header from the samples.
    read = _text_samples if kind in _TEXT else _binary_samples
    samples = read(encoded[place:] if kind in _TEXT else encoded[place + 1 :], kind, shape, maxval)
    if kind in _BITMAPS:
        samples = 1 - samples  # 1 is black
    pixels = _scaled(samples, maxval)
    return np.ascontiguousarray(np.broadcast_to(pixels[:, :, ::-1], (height, width, 3)))


def _binary_samples(
    content: bytes, kind: bytes, shape: tuple[int, int, int], maxval: int
) -> np.ndarray:
    height, width, channels = shape
    if kind in _BITMAPS:
        row_bytes = (width + 7) // 8
        packed = _complete(content, row_bytes * height).reshape(height, row_bytes)
        return np.unpackbits(packed, axis=1)[:, :width, None]
    sample_bytes = 1 if maxval < 256 else 2
    samples = _complete(content, sample_bytes * height * width * channels)
    return samples.view('u1' if sample_bytes == 1 else '>u2').reshape(shape)


def _complete(content: bytes, needed: int) -> np.ndarray:
    if len(content) < needed:
        raise ImageError(
            f'Netpbm data is truncated: its samples need {needed} bytes, got {len(content)}'
        )
    return np.frombuffer(content, np.uint8, needed)


def _text_samples(
    content: bytes, kind: bytes, shape: tuple[int, int, int], maxval: int
) -> np.ndarray:
    needed = int(np.prod(shape))
    content = _COMMENT.sub(b'', content)
    # The digits of a plain bitmap need not be separated by white space.
    words = re.findall(rb'[01]', content) if kind in _BITMAPS else content.split()
    if len(words) < needed:
        raise ImageError(f'Netpbm data is truncated: {needed} samples are needed, got {len(words)}')
    words = words[:needed]
    # Not left to the conversion: numpy 1 wraps negative numbers.
    if not all(word.isdigit() and len(word) < 10 for word in words):
        raise ImageError('Netpbm data is corrupt: a sample is not a number')
    return np.array(words).astype(np.uint32).reshape(shape)


def _scaled(samples: np.ndarray, maxval: int) -> np.ndarray:
    """Return samples of any range as uint8."""
    samples = np.minimum(samples, maxval)
    if maxval == 255:
        return samples.astype(np.uint8)
    if maxval == 65535:
        return (samples >> 8).astype(np.uint8)
    table = np.rint(np.arange(maxval + 1) / maxval * 255)  # half to even, as Pillow rounds
    return table.astype(np.uint8)[samples]
