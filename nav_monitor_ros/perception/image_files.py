"""Decode image files as the node decodes a message."""

from __future__ import annotations

import cv2
import numpy as np

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.perception import netpbm_files
from nav_monitor_ros.perception.compressed_images import decode_jpeg_or_png
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.exif_orientation import (
    APPLY,
    IGNORE,
    orientation,
    stored_upright,
    turned,
)
from nav_monitor_ros.perception.tiff_tags import (
    BITS_PER_SAMPLE,
    EXTRA_SAMPLES,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    read_tags,
)

MAX_PIXELS = 1 << 30  # as in OpenCV itself

_JPEG_OR_PNG = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n')
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_REMEDY = 'save it as RGB or gray with 8 or 16 bits'
# Values of TIFF's tags.
_BITS = {1, 2, 4, 8, 16}
_SAMPLE_KINDS = {2: 'signed integers', 3: 'floating-point numbers', 5: 'complex integers',
                 6: 'complex numbers'}
_COLOR_SPACES = {0: 'WhiteIsZero', 1: 'BlackIsZero', 2: 'RGB', 3: 'palette', 5: 'CMYK', 6: 'YCbCr'}
_UNSPECIFIED, _ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 0, 1, 2


def decode_picture(encoded: bytes, *, exif: str = IGNORE) -> DecodedImage:
    """Return the pixels of a JPEG, PNG, WebP, TIFF, BMP, PPM, PGM or PBM file.

    Its first bytes tell the format. JPEG and PNG are decoded as in ``decode_compressed``, with the
    same checks, so that folders and nodes refuse the same images. OpenCV refuses the others if
    truncated. The colours are those of Pillow's ``convert('RGB')``: alpha is dropped, palettes are
    resolved, samples of fewer than 8 bits are scaled to 0 to 255. Of 16 bits, the upper 8 are kept,
    whereas Pillow clips gray samples (libtiff rounds colours to 8 bits).

    Args:
        encoded: The whole file.
        exif: ``apply`` rotates the image according to its EXIF orientation, ``ignore`` does not,
            not even for TIFF.

    Raises:
        ImageError: It has another format, is truncated, corrupt, empty or too large, or a TIFF
            whose samples are not unsigned integers of at most 16 bits.
    """
    if encoded.startswith(_JPEG_OR_PNG):
        pixels = decode_jpeg_or_png(encoded, max_pixels=MAX_PIXELS)
    elif encoded.startswith(netpbm_files.SIGNATURES):
        pixels = netpbm_files.decode_netpbm(encoded, max_pixels=MAX_PIXELS)
    elif encoded.startswith(_TIFF):
        pixels = _decode_tiff(encoded)
    else:
        pixels = _decode(encoded, _format(encoded))
    if exif == APPLY:
        pixels = turned(pixels, orientation(encoded))
    return DecodedImage(pixels, 'gray' if pixels.ndim == 2 else 'bgr')


def _decode(encoded: bytes, name: str, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    try:
        pixels = cv2.imdecode(
            np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise ImageError(f'{name} data is corrupt or too large: {one_line(error)}') from None
    if pixels is None:
        raise ImageError(f'{name} data is truncated or corrupt ({len(encoded)} bytes)')
    return pixels


def _decode_tiff(encoded: bytes) -> np.ndarray:
    tags = read_tags(encoded)
    kinds = tags.get(SAMPLE_FORMAT)
    if kinds is not None and kinds.values[0] in _SAMPLE_KINDS:
        raise ImageError(f'TIFF data holds {_SAMPLE_KINDS[kinds.values[0]]}; {_REMEDY}')
    if (bits := tags.get(BITS_PER_SAMPLE)) is not None and not {*bits.values} <= _BITS:
        raise ImageError(f'TIFF data has samples of {max(bits.values)} bits; {_REMEDY}')
    space = tags.get(PHOTOMETRIC)
    if space is not None and space.values[0] not in _COLOR_SPACES:
        raise ImageError(
            f'TIFF data has the color space {space.values[0]}, which is none of '
            f'{", ".join(_COLOR_SPACES.values())}; {_REMEDY}'
        )
    encoded = stored_upright(encoded)
    extra = tags.get(EXTRA_SAMPLES)
    if extra is not None and extra.values[0] == _UNASSOCIATED_ALPHA:
        # libtiff would multiply the colours by it.
        encoded = extra.replaced(encoded, _UNSPECIFIED)
    elif extra is not None and extra.values[0] == _ASSOCIATED_ALPHA:
        pixels = _decode(encoded, 'TIFF', cv2.IMREAD_UNCHANGED)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            return _divided_by_alpha(pixels)
    return _decode(encoded, 'TIFF')


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Return the colours of premultiplied pixels (H, W, 4), uint8."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    colors, alpha = pixels[:, :, :3].astype(np.int32), pixels[:, :, 3:]
    divided = np.minimum(colors * 255 // np.maximum(alpha, 1), 255)
    return np.where(alpha == 0, colors, divided).astype(np.uint8)


def _format(encoded: bytes) -> str:
    if encoded.startswith(b'RIFF') and encoded[8:12] == b'WEBP':
        return 'WebP'
    if encoded.startswith(b'BM'):
        return 'BMP'
    what = f'{len(encoded)} bytes of another format' if encoded else 'an empty file'
    raise ImageError(f'{what}, not JPEG, PNG, WebP, TIFF, BMP, PPM or PGM')
