"""Camera messages in, pixels out: every encoding of the ROS contract, nothing trusted.

A message's header is checked against its data and against ``max_pixels`` before anything is
allocated. Pixels stay where the message has them wherever numpy can describe them with strides,
and in the order in which they were sent: colours are cheapest to convert after resizing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.exif_orientation import APPLY, IGNORE, orientation, turned

Order = Literal['rgb', 'bgr', 'rgba', 'bgra', 'gray']

_TO_RGB = {
    'bgr': cv2.COLOR_BGR2RGB,
    'rgba': cv2.COLOR_RGBA2RGB,
    'bgra': cv2.COLOR_BGRA2RGB,
    'gray': cv2.COLOR_GRAY2RGB,
}
_TO_GRAY = {
    'rgb': cv2.COLOR_RGB2GRAY,
    'bgr': cv2.COLOR_BGR2GRAY,
    'rgba': cv2.COLOR_RGBA2GRAY,
    'bgra': cv2.COLOR_BGRA2GRAY,
}


class ImageError(NavMonitorError):
    """An image message cannot be used; the text says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class RawImage:
    """Pixels in the channel order in which the camera sent them.

    ``pixels`` may be a read-only view into the message. Resize them first and convert the small
    result: ``RawImage(cv2.resize(image.pixels, size), image.order).rgb()``.
    """

    pixels: np.ndarray  # uint8 (H, W, channels), or (H, W) where order is 'gray'
    order: Order

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return self.pixels.shape[1]

    def rgb(self) -> np.ndarray:
        """Return the image in colour, without alpha.

        Returns:
            uint8 (H, W, 3), C-contiguous. It shares memory with ``pixels``, and so is read-only
            where they are, if they already are contiguous RGB.
        """
        if self.order == 'rgb':
            return np.ascontiguousarray(self.pixels)
        return cv2.cvtColor(self.pixels, _TO_RGB[self.order])

    def gray(self) -> np.ndarray:
        """Return the luma of the image, 0.299 R + 0.587 G + 0.114 B.

        Returns:
            uint8 (H, W), C-contiguous. It shares memory with ``pixels`` if they already are that.
        """
        if self.order == 'gray':
            return np.ascontiguousarray(self.pixels)
        return cv2.cvtColor(self.pixels, _TO_GRAY[self.order])

    def crop(self, x: int, y: int, width: int, height: int) -> RawImage:
        """Return a region of interest as a view.

        Args:
            x: Left column of the region, pixels.
            y: Top row of the region, pixels.
            width: Width of the region, pixels.
            height: Height of the region, pixels.

        Returns:
            The ``height`` x ``width`` pixels of the region, sharing memory with this image.

        Raises:
            ImageError: The region is empty or reaches outside the image.
        """
        fits = 0 <= x <= self.width - width and 0 <= y <= self.height - height
        if width < 1 or height < 1 or not fits:
            raise ImageError(
                f'region of interest x={x} y={y} width={width} height={height} does not lie '
                f'inside the image of {self.width} x {self.height} pixels'
            )
        return RawImage(self.pixels[y : y + height, x : x + width], self.order)


@dataclass(frozen=True)
class _Layout:
    """How an encoding lays out its samples, and what makes pixels of them."""

    channels: int  # samples for each pixel of a row
    order: Order  # of the samples, or of what the conversion yields
    sample_bytes: int = 1
    conversion: int | None = None  # OpenCV's code, where samples are not yet pixels
    multiple_of: tuple[int, int] = (1, 1)  # width and height that the format can express
    smallest: int = 1  # width and height below which the conversion has no answer
    chroma_rows: bool = False  # half as many rows again, of chroma, follow the luma plane


def _bayer(conversion: int, sample_bytes: int = 1) -> _Layout:
    # Below 3 x 3 OpenCV has no inner pixel to start from and silently answers black.
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
    # OpenCV's own type names say nothing about colour; its convention is blue first.
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

ENCODINGS: tuple[str, ...] = tuple(_LAYOUTS)  # those that need no cv_bridge


def decode(
    encoding: str,
    height: int,
    width: int,
    step: int,
    is_bigendian: bool,
    data: Any,
    *,
    max_pixels: int,
) -> RawImage:
    """Return the pixels of a ``sensor_msgs/Image``, given its fields.

    rgb, bgr, rgba, bgra, mono and the OpenCV types become read-only views into ``data``, padded
    rows included. Bayer and YUV (BT.601, as OpenCV and cv_bridge have it) are converted to RGB.
    Of samples with 16 bits the upper 8 are kept, which is the full range shifted right by 8; that
    holds for 16UC1 too, so a depth image in millimetres comes out in steps of 256 mm. 8UC3 and
    8UC4 are read as blue, green, red(, alpha). Any other encoding is left to cv_bridge.

    Args:
        encoding: One of ``ENCODINGS``, or what the installed cv_bridge can convert to rgb8.
        height: Rows of the image.
        width: Columns of the image.
        step: Bytes from the start of one row to the start of the next, padding included.
        is_bigendian: Byte order of samples with 16 bits.
        data: Any contiguous buffer (``array.array``, bytes, memoryview, numpy array). The last row
            may lack its padding, and what follows the last row is ignored. For nv12 and nv21,
            ``height * 3 / 2`` rows of ``step`` bytes.
        max_pixels: Largest accepted ``width * height``, checked before anything is allocated.

    Returns:
        Pixels as sent, uint8 (H, W, 3 or 4) or grey (H, W); as RGB where they were converted. A
        view keeps ``data`` alive and follows its changes.

    Raises:
        ImageError: The fields contradict each other or the data, the image is empty or too large,
            or nobody can convert the encoding.
    """
    _check_size(width, height, max_pixels)
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
    return RawImage(samples, layout.order)


def decode_compressed(
    format: str, data: Any, *, max_pixels: int, exif: str = IGNORE
) -> RawImage:
    """Return the pixels of a ``sensor_msgs/CompressedImage``, given its fields.

    The picture is a JPEG or PNG, whichever its first bytes say, and whatever ``format`` calls it:
    drivers write ``mjpeg``, ``MJPG`` or nothing. Alpha is dropped, of 16 bits the upper 8 are kept.
    What image_transport writes before the semicolon is honoured as its own subscriber does: a
    colour encoding without ``compressed bgr`` means that red and blue went into the encoder
    swapped, and a grey picture of a Bayer encoding is still a mosaic.

    Args:
        format: Any name, or what image_transport writes: ``rgb8; jpeg compressed bgr8``.
        data: Any contiguous buffer with the encoded picture.
        max_pixels: Largest accepted ``width * height``, checked on the picture's header before any
            pixel is decoded.
        exif: ``ignore``: the camera's rows stay rows; ``apply``: the picture is turned as its EXIF
            orientation says. As in the network's training, ``Preprocess.exif``.

    Returns:
        uint8 (H, W, 3), or grey (H, W) where the picture has one channel.

    Raises:
        ImageError: The data is of another format or a depth image, the picture is truncated,
            corrupt, empty or too large.
    """
    encoded = bytes(_buffer(data))
    if 'compresseddepth' in format.lower():  # a header of its own before a PNG, and no picture
        raise ImageError(
            f'compressed image format {_quoted(format)} is a depth image and not supported; jpeg '
            'and png are'
        )
    pixels = decode_jpeg_or_png(encoded, max_pixels=max_pixels, format=format)
    image = _as_announced(format, pixels, max_pixels)
    if exif == APPLY:
        return RawImage(turned(image.pixels, orientation(encoded)), image.order)
    return image


def decode_jpeg_or_png(
    encoded: bytes, *, max_pixels: int, format: str | None = None
) -> np.ndarray:
    """Return the pixels of a picture that is complete, rows as they are stored.

    Args:
        encoded: The whole picture.
        max_pixels: As for ``decode_compressed``.
        format: What a message calls it, for the error.

    Returns:
        uint8 (H, W, 3) BGR, or (H, W) where the picture has one channel.

    Raises:
        ImageError: It is neither, or truncated, corrupt, empty or too large.
    """
    width, height = _encoded_size(encoded, format)
    _check_size(width, height, max_pixels)
    return _decode_picture(encoded, width, height)


def _as_announced(format: str, pixels: np.ndarray, max_pixels: int) -> RawImage:
    """Return decoded pixels as what the message's format says that they are."""
    source = format.split(';')[0].strip()
    if pixels.ndim == 3:
        swapped = re.fullmatch('(rgb|bgr)a?(8|16)', source) and 'compressed bgr' not in format
        return RawImage(pixels, 'rgb' if swapped and ';' in format else 'bgr')
    if source.startswith('bayer_') and source in _LAYOUTS:
        height, width = pixels.shape
        mosaic = source.removesuffix('16').removesuffix('8') + '8'
        return decode(mosaic, height, width, width, False, pixels, max_pixels=max_pixels)
    return RawImage(pixels, 'gray')


def _check_size(width: int, height: int, max_pixels: int) -> None:
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


def _buffer(data: Any) -> memoryview:
    """Return the bytes of any contiguous buffer, read-only and without a copy."""
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
    """Return the bytes of ``data`` once they are known to hold the rows that the header claims."""
    if step < row_bytes:
        raise ImageError(f'step {step} is too small: a row of the image needs {row_bytes} bytes')
    buffer = _buffer(data)
    needed = (rows - 1) * step + row_bytes
    if buffer.nbytes < needed:
        raise ImageError(
            f'image data is truncated: {rows} rows of step {step} need {needed} bytes, '
            f'got {buffer.nbytes}'
        )
    return buffer


def _quoted(text: str) -> str:
    return repr(text[:60])


@dataclass(frozen=True)
class _Message:
    """The fields of ``sensor_msgs/Image`` that cv_bridge reads; perception knows no ROS."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: bytes


def _decode_with_cv_bridge(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Any
) -> RawImage:
    try:
        from cv_bridge import CvBridge  # not needed, and often not importable, elsewhere

        bridge = CvBridge()
        dtype, channels = bridge.encoding_to_dtype_with_channels(encoding)
        row_bytes = width * channels * np.dtype(dtype).itemsize
    except Exception as error:  # whatever the parts of cv_bridge raise
        raise _unsupported(encoding, error) from error
    buffer = _checked_buffer(data, height, row_bytes, step)
    # Older cv_bridge releases take padding for pixels and shear the image: hand over none.
    rows = np.ndarray((height, row_bytes), np.uint8, buffer, strides=(step, 1)).tobytes()
    message = _Message(encoding, height, width, row_bytes, int(is_bigendian), rows)
    try:
        pixels = np.asarray(bridge.imgmsg_to_cv2(message, 'rgb8'))
    except Exception as error:  # as above
        raise _unsupported(encoding, error) from error
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3):
        raise ImageError(
            f'cv_bridge made {pixels.dtype} {pixels.shape} of a {_quoted(encoding)} image instead '
            f'of uint8 {(height, width, 3)}'
        )
    return RawImage(pixels, 'rgb')


def _unsupported(encoding: str, error: Exception) -> ImageError:
    reason = one_line(error, 120)
    return ImageError(
        f'image encoding {_quoted(encoding)} is not supported, and cv_bridge does not help '
        f'({type(error).__name__}: {reason}); supported: {", ".join(ENCODINGS)}'
    )


@dataclass(frozen=True)
class _Codec:
    """What identifies a compressed picture, delimits it and tells its size."""

    name: str
    signature: bytes
    end: bytes
    find_size: Callable[[bytes], tuple[int, int, int] | None]
    # the whole file -> width, height, where the pixels' part begins at the earliest


_PNG_AROUND = 12  # bytes of a chunk's length, name and checksum


def _png_size(encoded: bytes) -> tuple[int, int, int] | None:
    if encoded[12:16] != b'IHDR' or len(encoded) < 24:
        return None
    # OpenCV makes room for what a chunk's length promises before it looks for the chunk.
    place = len(b'\x89PNG\r\n\x1a\n')
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
    return int.from_bytes(encoded[16:20], 'big'), int.from_bytes(encoded[20:24], 'big'), 24


_JPEG_MARKER = re.compile(rb'\xff+([^\x00\xff])')  # skips fill bytes and garbage, as libjpeg does
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, of every process
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_MOST_SCANS = 32  # progressive pictures have about ten, and each costs a pass over all pixels


def _jpeg_size(encoded: bytes) -> tuple[int, int, int] | None:
    # Segments are stepped over whole, so a thumbnail inside one is not taken for the picture.
    size = None
    position = 2
    while (found := _JPEG_MARKER.search(encoded, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker == _JPEG_SCAN and size is not None:
            return *size, position
        if marker in (_JPEG_SCAN, _JPEG_END):
            return None
        if marker in _JPEG_BARE:
            continue
        if marker in _JPEG_FRAMES:
            # length (2 bytes), sample precision (1), height (2), width (2)
            height = int.from_bytes(encoded[position + 3 : position + 5], 'big')
            width = int.from_bytes(encoded[position + 5 : position + 7], 'big')
            size = width, height
        position += max(2, int.from_bytes(encoded[position : position + 2], 'big'))
    return None


_CODECS = (
    _Codec('JPEG', b'\xff\xd8\xff', b'\xff\xd9', _jpeg_size),
    _Codec('PNG', b'\x89PNG\r\n\x1a\n', b'IEND\xae\x42\x60\x82', _png_size),
)


def _encoded_size(encoded: bytes, format: str | None) -> tuple[int, int]:
    """Return width and height as the picture's header has them, once the picture is complete."""
    codec = next((codec for codec in _CODECS if encoded.startswith(codec.signature)), None)
    if codec is None:
        called = '' if format is None else f', format {_quoted(format)}'
        raise ImageError(
            f'compressed image data ({len(encoded)} bytes{called}) is neither JPEG nor PNG, and no '
            'other format is supported'
        )
    size = codec.find_size(encoded)
    if size is None:
        raise ImageError(f'{codec.name} header is truncated or corrupt ({len(encoded)} bytes)')
    width, height, pixels_begin = size
    scans = encoded.count(b'\xff\xda', pixels_begin) if codec.name == 'JPEG' else 0
    if scans > _MOST_SCANS:
        raise ImageError(f'JPEG data has {scans} scans, more than the {_MOST_SCANS} allowed')
    # libjpeg paints what is missing grey and calls it a picture.
    if encoded.find(codec.end, pixels_begin) < 0:
        raise ImageError(f'{codec.name} data is truncated: no end marker in {len(encoded)} bytes')
    return width, height


def _decode_picture(encoded: bytes, width: int, height: int) -> np.ndarray:
    # Eight bits and one or three channels, whatever the file holds.
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
