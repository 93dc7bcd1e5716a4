"""Read the EXIF orientation of an image and rotate its pixels accordingly.

A camera stores the rows as its sensor reads them, with a number from 1 to 8 that tells how to
rotate or mirror them for display. torchvision, like most training code, ignores it; so does this
package unless the preprocessing has ``exif: apply``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from nav_monitor_ros.perception.tiff_tags import ORIENTATION, read_tags

EXIF = ('ignore', 'apply')  # options of the preprocessing
IGNORE, APPLY = EXIF
UPRIGHT = 1  # the orientation of an upright image

_JPEG, _PNG, _RIFF = b'\xff\xd8', b'\x89PNG\r\n\x1a\n', b'RIFF'
_PREFIX = b'Exif\0\0'  # prefix of a JPEG segment; some WebP writers add it too
_JPEG_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length
_JPEG_SCAN = 0xDA


def orientation(encoded: bytes) -> int:
    """Return an image's EXIF orientation, 1 to 8.

    Args:
        encoded: A whole JPEG, PNG, WebP or TIFF file; for other formats and for missing or damaged
            tags, the image counts as upright.
    """
    for block in _exif_blocks(encoded):
        tag = read_tags(block).get(ORIENTATION)
        if tag is not None and 1 <= tag.values[0] <= 8:
            return tag.values[0]
    return UPRIGHT


def turned(pixels: np.ndarray, number: int) -> np.ndarray:
    """Return pixels rotated for display.

    Args:
        pixels: (H, W, ...), as stored.
        number: Orientation, 1 to 8.

    Returns:
        Contiguous pixels; (W, H, ...) for 5 to 8.
    """
    if number > 4:  # rows and columns are swapped
        pixels = pixels.swapaxes(0, 1)
    if number in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if number in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def stored_upright(encoded: bytes) -> bytes:
    """Return a TIFF file without its orientation.

    libtiff rotates pixels when it reads them, whatever the flags of OpenCV.
    """
    tag = read_tags(encoded).get(ORIENTATION)
    return encoded if tag is None else tag.replaced(encoded, UPRIGHT)


def _exif_blocks(encoded: bytes) -> Iterator[bytes]:
    """Yield the parts of an image that have the structure of a TIFF file."""
    if encoded.startswith(_JPEG):
        yield from _jpeg_blocks(encoded)
    elif encoded.startswith(_PNG):
        yield from _chunks(encoded, len(_PNG), b'eXIf', '>', name_first=False)
    elif encoded.startswith(_RIFF):
        for block in _chunks(encoded, 12, b'EXIF', '<', name_first=True):
            yield block.removeprefix(_PREFIX)
    else:
        yield encoded


def _jpeg_blocks(encoded: bytes) -> Iterator[bytes]:
    place = 2
    while (place := encoded.find(b'\xff', place)) >= 0 and place + 4 <= len(encoded):
        marker = encoded[place + 1]
        if marker == _JPEG_SCAN:
            return
        if marker in (0x00, 0xFF) or marker in _JPEG_BARE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(encoded[place + 2 : place + 4], 'big')
        content = encoded[place + 4 : place + 2 + length]
        if marker == 0xE1 and content.startswith(_PREFIX):
            yield content[len(_PREFIX) :]
        place += 2 + max(2, length)


def _chunks(
    encoded: bytes, place: int, wanted: bytes, order: str, *, name_first: bool
) -> Iterator[bytes]:
    """Yield the contents of the chunks with one name in a PNG or RIFF file."""
    while place + 8 <= len(encoded):
        head = encoded[place : place + 8]
        name, number = (head[:4], head[4:]) if name_first else (head[4:], head[:4])
        (length,) = struct.unpack(f'{order}I', number)
        if name == wanted:
            yield encoded[place + 8 : place + 8 + length]
        # A PNG chunk is followed by a checksum, a RIFF chunk is padded to an even length.
        place += 8 + length + (length % 2 if name_first else 4)
