"""Encodings of ``sensor_msgs/Image`` and their conversion to pixels.

A message's header is checked against its data and against ``max_pixels`` before anything is
allocated. Pixels are not copied if numpy can describe them with strides, and keep the channel order
in which they were sent: colours are cheapest to convert after resizing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError, Order


@dataclass(frozen=True)
class _Layout:
    """Sample layout of an encoding and its conversion to pixels."""

    channels: int  # samples per pixel of a row
    order: Order  # channel order of the samples, or of the result of the conversion
    sample_bytes: int = 1
    conversion: int | None = None  # OpenCV's conversion code, if samples are not yet pixels
    multiple_of: tuple[int, int] = (1, 1)  # divisor of width and height required by the format
    smallest: int = 1  # smallest width and height of the conversion
    chroma_rows: bool = False  # the luma plane is followed by half as many rows of chroma


def _bayer(conversion: int, sample_bytes: int = 1) -> _Layout:
    # Below 3 x 3, OpenCV has no inner pixel to start from and silently returns black.
    return _Layout(1, 'rgb', sample_bytes, conversion, smallest=3)


_UYVY = _Layout(2, 'rgb', conversion=cv2.COLOR_YUV2RGB_UYVY, multiple_of=(2, 1))
_YUYV = _Layout(2, 'rgb', conversion=cv2.COLOR_YUV2RGB_YUYV, multiple_of=(2, 1))

_LAYOUTS: dict[str, _Layout] = {
    'rgb8': _Layout(3, 'rgb'),
    'bgr8': _Layout(3, 'bgr'),
    'rgba8': _Layout(4, 'rgba'),
    'bgra8': _Layout(4, 'bgra'),
    'rgb16': _Layout(3, 'rgb', 2),
    'bgr16': _Layout(3, 'bgr', 2),
    'rgba16': _Layout(4, 'rgba', 2),
    'bgra16': _Layout(4, 'bgra', 2),
    'mono8': _Layout(1, 'gray'),
    'mono16': _Layout(1, 'gray', 2),
    # OpenCV's own type names do not define colours; its convention is blue first.
    '8UC1': _Layout(1, 'gray'),
    '8UC3': _Layout(3, 'bgr'),
    '8UC4': _Layout(4, 'bgra'),
    '16UC1': _Layout(1, 'gray', 2),
    'bayer_rggb8': _bayer(cv2.COLOR_BayerRGGB2RGB),
    'bayer_bggr8': _bayer(cv2.COLOR_BayerBGGR2RGB),
    'bayer_gbrg8': _bayer(cv2.COLOR_BayerGBRG2RGB),
    'bayer_grbg8': _bayer(cv2.COLOR_BayerGRBG2RGB),
    'bayer_rggb16': _bayer(cv2.COLOR_BayerRGGB2RGB, 2),
    'bayer_bggr16': _bayer(cv2.COLOR_BayerBGGR2RGB, 2),
    'bayer_gbrg16': _bayer(cv2.COLOR_BayerGBRG2RGB, 2),
    'bayer_grbg16': _bayer(cv2.COLOR_BayerGRBG2RGB, 2),
    'uyvy': _UYVY,
    'yuv422': _UYVY,
    'yuyv': _YUYV,
    'yuv422_yuy2': _YUYV,
    'nv12': _Layout(
        1, 'rgb', conversion=cv2.COLOR_YUV2RGB_NV12, multiple_of=(2, 2), chroma_rows=True
    ),
    'nv21': _Layout(
        1, 'rgb', conversion=cv2.COLOR_YUV2RGB_NV21, multiple_of=(2, 2), chroma_rows=True
    ),
}

ENCODINGS: tuple[str, ...] = tuple(_LAYOUTS)  # encodings that do not need cv_bridge


def decode(
    encoding: str,
    height: int,
    width: int,
    step: int,
    is_bigendian: bool,
    data: Any,
    *,
    max_pixels: int,
) -> DecodedImage:
    """Return the pixels of a ``sensor_msgs/Image``, given its fields.

    rgb, bgr, rgba, bgra, mono and the OpenCV types become read-only views into ``data``, padded
    rows included. Bayer and YUV (BT.601, as in OpenCV and cv_bridge) are converted to RGB. Of
    16-bit samples, the upper 8 bits are kept, which is the full range shifted right by 8; that
    holds for 16UC1 too, so a depth image in millimetres comes out in steps of 256 mm. 8UC3 and 8UC4
    are read as blue, green, red(, alpha). All other encodings are left to cv_bridge.

    Args:
        encoding: One of ``ENCODINGS``, or one that the installed cv_bridge can convert to rgb8.
        height: Rows of the image.
        width: Columns of the image.
        step: Bytes from the start of one row to the start of the next, padding included.
        is_bigendian: Byte order of samples with 16 bits.
        data: Any contiguous buffer (``array.array``, bytes, memoryview, numpy array). The last row
            may lack its padding, and what follows the last row is ignored. For nv12 and nv21,
            ``height * 3 / 2`` rows of ``step`` bytes.
        max_pixels: Largest accepted ``width * height``, checked before anything is allocated.

    Returns:
        Pixels as sent, uint8 (H, W, 3 or 4) or grey (H, W); as RGB if they were converted. A view
        keeps ``data`` alive and follows its changes.

    Raises:
        ImageError: The fields contradict each other or the data, the image is empty or too large,
            or the encoding is not supported.
    """
    check_size(width, height, max_pixels)
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        return _decode_with_cv_bridge(encoding, height, width, step, is_bigendian, data)
    _check_divisible(encoding, layout, width, height)
    rows = height * 3 // 2 if layout.chroma_rows else height
    pixel_bytes = layout.channels * layout.sample_bytes
    buffer = _checked_buffer(data, rows, width * pixel_bytes, step)
    # Of a little-endian 16-bit sample the upper byte is the second one.
    upper_byte = 0 if is_bigendian else layout.sample_bytes - 1
    samples: np.ndarray = np.ndarray(
        (rows, width, layout.channels),
        np.uint8,
        buffer,
        offset=upper_byte,
        strides=(step, pixel_bytes, layout.sample_bytes),
    )
    if layout.channels == 1:
        samples = samples[:, :, 0]
    if layout.conversion is not None:
        samples = cv2.cvtColor(samples, layout.conversion)
    return DecodedImage(samples, layout.order)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check the size in an image's header before anything is allocated for it.

    Raises:
        ImageError: The image is empty, or has more pixels than ``max_pixels``.
    """
    if width < 1 or height < 1:
        raise ImageError(f'image is empty: {width} x {height} pixels')
    if width * height > max_pixels:
        raise ImageError(
            f'image of {width} x {height} pixels is larger than max_pixels = {max_pixels}; '
            f'raise max_pixels if the camera really is that large'
        )


def _check_divisible(encoding: str, layout: _Layout, width: int, height: int) -> None:
    across, down = layout.multiple_of
    if width % across or height % down:
        sides = 'an even width' if down == 1 else 'an even width and height'
        raise ImageError(f'{encoding} image needs {sides}, got {width} x {height}')
    if min(width, height) < layout.smallest:
        raise ImageError(
            f'{encoding} image needs at least {layout.smallest} x {layout.smallest} pixels, '
            f'got {width} x {height}'
        )


def as_buffer(data: Any) -> memoryview:
    """Return the bytes of any contiguous buffer, read-only and without a copy.

    Raises:
        ImageError: It is not a buffer, or not contiguous.
    """
    try:
        view = memoryview(data)
    except TypeError as error:
        raise ImageError(
            f'image data must be a buffer of bytes, got {type(data).__name__}'
        ) from error
    if not view.c_contiguous:
        raise ImageError('image data must be a contiguous buffer')
    return view.toreadonly()


def _checked_buffer(data: Any, rows: int, row_bytes: int, step: int) -> memoryview:
    """Return the bytes of ``data`` after checking that they hold the rows of the header."""
    if step < row_bytes:
        raise ImageError(f'step {step} is too small: a row of the image needs {row_bytes} bytes')
    buffer = as_buffer(data)
    needed = (rows - 1) * step + row_bytes
    if buffer.nbytes < needed:
        raise ImageError(
            f'image data is truncated: {rows} rows of step {step} need {needed} bytes, '
            f'got {buffer.nbytes}'
        )
    return buffer


def quoted(text: str) -> str:
    """Return the start of a string from a message, quoted for an error."""
    return repr(text[:60])


@dataclass(frozen=True)
class _Message:
    """The fields of ``sensor_msgs/Image`` that cv_bridge reads; perception does not import ROS."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: bytes


def _decode_with_cv_bridge(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Any
) -> DecodedImage:
    try:
        from cv_bridge import CvBridge  # not needed elsewhere, and often not importable

        bridge = CvBridge()
        dtype, channels = bridge.encoding_to_dtype_with_channels(encoding)
        row_bytes = width * channels * np.dtype(dtype).itemsize
    except Exception as error:  # any exception of cv_bridge
        raise _unsupported(encoding, error) from error
    buffer = _checked_buffer(data, height, row_bytes, step)
    # Older cv_bridge releases mistake padding for pixels and shear the image, so remove it.
    rows = np.ndarray((height, row_bytes), np.uint8, buffer, strides=(step, 1)).tobytes()
    message = _Message(encoding, height, width, row_bytes, int(is_bigendian), rows)
    try:
        pixels = np.asarray(bridge.imgmsg_to_cv2(message, 'rgb8'))
    except Exception as error:  # as above
        raise _unsupported(encoding, error) from error
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3):
        raise ImageError(
            f'cv_bridge made {pixels.dtype} {pixels.shape} of a {quoted(encoding)} image instead '
            f'of uint8 {(height, width, 3)}'
        )
    return DecodedImage(pixels, 'rgb')


def _unsupported(encoding: str, error: Exception) -> ImageError:
    reason = one_line(error, 120)
    return ImageError(
        f'image encoding {quoted(encoding)} is not supported, and cv_bridge cannot convert it '
        f'({type(error).__name__}: {reason}); supported: {", ".join(ENCODINGS)}'
    )
