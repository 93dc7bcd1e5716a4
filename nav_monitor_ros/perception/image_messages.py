"""Decode image messages, raw and compressed, in the same way for the node and for bags."""

from __future__ import annotations

from typing import Any

from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.image_encodings import decode


def decode_message(
    message: Any, *, compressed: bool, max_pixels: int, exif: str
) -> DecodedImage:
    """Return the pixels of an image message.

    Args:
        message: Has the fields of ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.
        compressed: Whether it is a ``CompressedImage``.
        max_pixels: Largest accepted ``width * height``.
        exif: ``apply`` rotates a compressed image according to its EXIF orientation, ``ignore``
            does not.

    Raises:
        ImageError: The message cannot be used.
    """
    if compressed:
        return decode_compressed(message.format, message.data, max_pixels=max_pixels, exif=exif)
    return decode(
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
        message.data,
        max_pixels=max_pixels,
    )
