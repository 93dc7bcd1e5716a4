"""Pictures as files have them: the formats of a folder, decoded as the node decodes a message."""

from __future__ import annotations

import cv2
import numpy as np

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.perception.compressed_images import decode_jpeg_or_png
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.exif_orientation import (
    APPLY,
    IGNORE,
    orientation,
    stored_upright,
    turned,
)

MAX_PIXELS = 1 << 30  # as OpenCV itself has it

_JPEG_OR_PNG = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n')
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_NETPBM = tuple(b'P%d' % number for number in range(1, 7))


def decode_picture(encoded: bytes, *, exif: str = IGNORE) -> DecodedImage:
    """Return the pixels of a JPEG, PNG, WebP, TIFF, BMP, PPM, PGM or PBM file.

    Its first bytes say which it is. JPEG and PNG are decoded as in ``decode_compressed``, with the
    same checks, so a folder refuses what a node refuses. OpenCV refuses the others if truncated.

    Args:
        encoded: The whole file.
        exif: ``ignore``: rows stay as they are stored, also those of a TIFF; ``apply``: the picture
            is turned as its EXIF orientation says.

    Raises:
        ImageError: It is of another format, truncated, corrupt, empty or too large.
    """
    if encoded.startswith(_JPEG_OR_PNG):
        pixels = decode_jpeg_or_png(encoded, max_pixels=MAX_PIXELS)
    else:
        pixels = _decoded(encoded)
    if exif == APPLY:
        pixels = turned(pixels, orientation(encoded))
    return DecodedImage(pixels, 'gray' if pixels.ndim == 2 else 'bgr')


def _decoded(encoded: bytes) -> np.ndarray:
    name = _format(encoded)
    if name == 'TIFF':
        encoded = stored_upright(encoded)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f'{name} data is corrupt or too large: {one_line(error)}') from None
    if pixels is None:
        raise ImageError(f'{name} data is truncated or corrupt ({len(encoded)} bytes)')
    return pixels


def _format(encoded: bytes) -> str:
    if encoded.startswith(b'RIFF') and encoded[8:12] == b'WEBP':
        return 'WebP'
    for name, signatures in (('TIFF', _TIFF), ('BMP', (b'BM',)), ('Netpbm', _NETPBM)):
        if encoded.startswith(signatures):
            return name
    what = f'{len(encoded)} bytes of another format' if encoded else 'an empty file'
    raise ImageError(f'{what}, not JPEG, PNG, WebP, TIFF, BMP, PPM or PGM')
