"""Decode JPEG and PNG images, checked for completeness beforehand.

OpenCV invents pixels for the missing part of a truncated image, and allocates whatever size a
header declares, so the structure is checked first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.exif_orientation import APPLY, IGNORE, orientation, turned
from nav_monitor_ros.perception.image_encodings import (
    ENCODINGS,
    as_buffer,
    check_size,
    decode,
    quoted,
)


def decode_compressed(
    format: str, data: Any, *, max_pixels: int, exif: str = IGNORE
) -> DecodedImage:
    """Return the pixels of a ``sensor_msgs/CompressedImage``, given its fields.

    The first bytes tell whether the image is a JPEG or PNG, whatever ``format`` says: drivers write
    ``mjpeg``, ``MJPG`` or nothing. Alpha is dropped; of 16 bits, the upper 8 are kept. The part
    that image_transport writes before the semicolon is interpreted as by its own subscriber: a
    colour encoding without ``compressed bgr`` means that red and blue were swapped before encoding,
    and a grey image of a Bayer encoding is still a mosaic.

    Args:
        format: Any name, or the string of image_transport: ``rgb8; jpeg compressed bgr8``.
        data: Any contiguous buffer with the encoded picture.
        max_pixels: Largest accepted ``width * height``, checked on the picture's header before any
            pixel is decoded.
        exif: ``apply`` rotates the image according to its EXIF orientation, ``ignore`` does not.
            Use the setting of the network's training, ``Preprocess.exif``.

    Returns:
        uint8 (H, W, 3), or grey (H, W) if the image has one channel.

    Raises:
        ImageError: The data has another format or is a depth image, or the image is truncated,
            corrupt, empty or too large.
    """
    encoded = bytes(as_buffer(data))
    if 'compresseddepth' in format.lower():  # a special header before a PNG, and not an image
        raise ImageError(
            f'compressed image format {quoted(format)} is a depth image and not supported; jpeg '
            'and png are'
        )
    pixels = decode_jpeg_or_png(encoded, max_pixels=max_pixels, format=format)
    image = _as_announced(format, pixels, max_pixels)
    if exif == APPLY:
        return DecodedImage(turned(image.pixels, orientation(encoded)), image.order)
    return image


def decode_jpeg_or_png(
    encoded: bytes, *, max_pixels: int, format: str | None = None
) -> np.ndarray:
    """Return the pixels of a complete image, with rows as stored.

    Args:
        encoded: The whole encoded image.
        max_pixels: As for ``decode_compressed``.
        format: The ``format`` of the message, for the error.

    Returns:
        uint8 (H, W, 3) BGR, or (H, W) if the image has one channel.

    Raises:
        ImageError: It is neither JPEG nor PNG, or is truncated, corrupt, empty or too large.
    """
    width, height = _encoded_size(encoded, format)
    check_size(width, height, max_pixels)
    return _decode_picture(encoded, width, height)


def _as_announced(format: str, pixels: np.ndarray, max_pixels: int) -> DecodedImage:
    """Return decoded pixels in the channel order given by the message's format."""
    source = format.split(';')[0].strip()
    if pixels.ndim == 3:
        swapped = re.fullmatch('(rgb|bgr)a?(8|16)', source) and 'compressed bgr' not in format
        return DecodedImage(pixels, 'rgb' if swapped and ';' in format else 'bgr')
    if source.startswith('bayer_') and source in ENCODINGS:
        height, width = pixels.shape
        mosaic = source.removesuffix('16').removesuffix('8') + '8'
        return decode(mosaic, height, width, width, False, pixels, max_pixels=max_pixels)
    return DecodedImage(pixels, 'gray')


@dataclass(frozen=True)
class _Header:
    """Declared size of an image, and whether its end was found."""

    width: int
    height: int
    complete: bool


@dataclass(frozen=True)
class _Codec:
    """Signature and parser of a compressed format."""

    name: str
    signature: bytes
    read: Callable[[bytes], _Header | None]  # of all data; None if the size is not found


_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_AROUND = 12  # bytes of a chunk's length, name and checksum
_PNG_END = b'\0\0\0\0IEND\xae\x42\x60\x82'


def _png_header(encoded: bytes) -> _Header | None:
    if encoded[12:16] != b'IHDR' or len(encoded) < 24:
        return None
    # OpenCV allocates the declared length of a chunk before it reads the chunk.
    place = len(_PNG_SIGNATURE)
    while place + 8 <= len(encoded):
        length = int.from_bytes(encoded[place : place + 4], 'big')
        if length > len(encoded) - place - _PNG_AROUND:
            raise ImageError(
                f'PNG data is truncated or corrupt: a part of {length} bytes at byte {place} of '
                f'{len(encoded)}'
            )
        if encoded[place + 4 : place + 8] == b'IEND':
            break
        place += _PNG_AROUND + length
    width, height = (int.from_bytes(encoded[at : at + 4], 'big') for at in (16, 20))
    return _Header(width, height, encoded.startswith(_PNG_END, place))


_JPEG_MARKER = re.compile(rb'\xff+([^\x00\xff])')  # skips fill bytes and garbage, as libjpeg does
# Among the pixels, also FF that is part of them (FF 00) and restart markers; reserved markers are
# garbage there, and must not seem to have a length that hides what follows.
_JPEG_MARKER_AMONG_PIXELS = re.compile(rb'\xff([\xc0-\xcf\xd8-\xfe])')
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, of every process
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_JPEG_START, _JPEG_END, _JPEG_SCAN = 0xD8, 0xD9, 0xDA
_MOST_SCANS = 32  # progressive images have about ten, and each costs a pass over all pixels


def _jpeg_header(encoded: bytes) -> _Header | None:
    # Whole segments are skipped, so that a thumbnail inside one is not mistaken for the image.
    size = None
    position = 2
    while (found := _JPEG_MARKER.search(encoded, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker == _JPEG_SCAN and size is not None:
            return _Header(*size, _has_jpeg_end(encoded, position))
        if marker in (_JPEG_SCAN, _JPEG_END):
            return None
        if marker in _JPEG_BARE:
            continue
        if marker in _JPEG_FRAMES:
            # length (2 bytes), sample precision (1), height (2), width (2)
            height = int.from_bytes(encoded[position + 3 : position + 5], 'big')
            width = int.from_bytes(encoded[position + 5 : position + 7], 'big')
            size = width, height
        position = _after_segment(encoded, position)
    return None


def _has_jpeg_end(encoded: bytes, position: int) -> bool:
    """Return whether an image's end marker follows its scans.

    What follows the end is not read: a phone appends a video, a depth map or another image.

    Args:
        encoded: The whole data.
        position: End of the marker of the first scan.

    Raises:
        ImageError: The image has too many scans.
    """
    scans = 1
    position = _after_segment(encoded, position)
    while (found := _JPEG_MARKER_AMONG_PIXELS.search(encoded, position)) is not None:
        marker = found[1][0]
        if marker in (_JPEG_START, _JPEG_END):  # at a start, another image begins before the end
            break
        scans += marker == _JPEG_SCAN
        position = _after_segment(encoded, found.end())
    if scans > _MOST_SCANS:
        raise ImageError(f'JPEG data has {scans} scans, more than the {_MOST_SCANS} allowed')
    return found is not None and found[1][0] == _JPEG_END


def _after_segment(encoded: bytes, position: int) -> int:
    """Return the end of a JPEG segment, given the end of its marker."""
    return position + max(2, int.from_bytes(encoded[position : position + 2], 'big'))


_CODECS = (
    _Codec('JPEG', b'\xff\xd8\xff', _jpeg_header),
    _Codec('PNG', _PNG_SIGNATURE, _png_header),
)


def _encoded_size(encoded: bytes, format: str | None) -> tuple[int, int]:
    """Return width and height from the header of a complete image."""
    codec = next((codec for codec in _CODECS if encoded.startswith(codec.signature)), None)
    if codec is None:
        called = '' if format is None else f', format {quoted(format)}'
        raise ImageError(
            f'compressed image data ({len(encoded)} bytes{called}) is neither JPEG nor PNG, and no '
            'other format is supported'
        )
    header = codec.read(encoded)
    if header is None:
        raise ImageError(f'{codec.name} header is truncated or corrupt ({len(encoded)} bytes)')
    # libjpeg fills the missing part with grey and reports success.
    if not header.complete:
        raise ImageError(f'{codec.name} data is truncated: no end marker in {len(encoded)} bytes')
    return header.width, header.height


def _decode_picture(encoded: bytes, width: int, height: int) -> np.ndarray:
    # Eight bits and one or three channels, whatever the file contains.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f'compressed image is corrupt: {one_line(error)}') from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise ImageError(
            f'compressed image of {width} x {height} pixels is corrupt: it cannot be decoded'
        )
    return pixels
