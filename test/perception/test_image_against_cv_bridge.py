"""Real ROS messages: this package's decoder and cv_bridge give the same pixels."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.image_encodings import decode

pytestmark = pytest.mark.ros

HEIGHT, WIDTH = 24, 40
PIXEL_BYTES = {
    'rgb8': 3,
    'bgr8': 3,
    'rgba8': 4,
    'bgra8': 4,
    'mono8': 1,
    'bayer_rggb8': 1,
    'bayer_bggr8': 1,
    'bayer_gbrg8': 1,
    '8UC1': 1,
    '8UC3': 3,
    'mono16': 2,
}


def image_message(encoding: str, pixel_bytes: int, seed: int) -> object:
    """Return an unpadded sensor_msgs/Image of random bytes, filled as the project fills them."""
    from sensor_msgs.msg import Image

    data = np.random.default_rng(seed).integers(0, 256, HEIGHT * WIDTH * pixel_bytes, np.uint8)
    message = Image(encoding=encoding, height=HEIGHT, width=WIDTH, step=WIDTH * pixel_bytes)
    message.data = array.array('B')
    message.data.frombytes(data.tobytes())
    return message


def decode_message(message: object) -> DecodedImage:
    """Decode a sensor_msgs/Image as the node does."""
    return decode(
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
        message.data,
        max_pixels=1_000_000,
    )


@pytest.mark.parametrize(
    'encoding', [name for name in PIXEL_BYTES if name not in ('8UC1', '8UC3', 'mono16')]
)
@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=10)
def test_colours_are_those_of_cv_bridge(encoding: str, seed: int) -> None:
    from cv_bridge import CvBridge

    message = image_message(encoding, PIXEL_BYTES[encoding], seed)
    expected = CvBridge().imgmsg_to_cv2(message, 'rgb8')
    np.testing.assert_array_equal(decode_message(message).rgb(), expected)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'bgra8', 'mono8', '8UC1', '8UC3'])
def test_samples_are_those_of_cv_bridge(encoding: str) -> None:
    from cv_bridge import CvBridge

    message = image_message(encoding, PIXEL_BYTES[encoding], seed=1)
    expected = CvBridge().imgmsg_to_cv2(message, 'passthrough')
    np.testing.assert_array_equal(decode_message(message).pixels, expected)


def test_mono16_is_the_upper_byte_of_what_cv_bridge_reads() -> None:
    from cv_bridge import CvBridge

    message = image_message('mono16', 2, seed=2)
    expected = CvBridge().imgmsg_to_cv2(message, 'passthrough') >> 8
    np.testing.assert_array_equal(decode_message(message).pixels, expected)


def test_padded_message_is_not_sheared() -> None:
    message = image_message('bgr8', 3, seed=3)
    expected = decode_message(message).rgb()
    rows = np.frombuffer(message.data, np.uint8).reshape(HEIGHT, -1)
    message.step += 8
    message.data = array.array('B')
    message.data.frombytes(np.pad(rows, ((0, 0), (0, 8))).tobytes())
    np.testing.assert_array_equal(decode_message(message).rgb(), expected)


@pytest.mark.parametrize('encoding', ['32FC1', '8UC2', 'nv24', 'no such encoding', ''])
def test_encoding_that_cv_bridge_cannot_convert_either_is_refused(encoding: str) -> None:
    with pytest.raises(
        ImageError, match=f"encoding '{encoding}' is not supported.*supported: rgb8"
    ):
        decode_message(image_message(encoding, 4, seed=4))


@pytest.mark.parametrize('format', ['png', 'jpeg'])
def test_compressed_pixels_are_those_of_cv_bridge(format: str) -> None:
    from cv_bridge import CvBridge
    from sensor_msgs.msg import CompressedImage

    pixels = decode_message(image_message('bgr8', 3, seed=5)).pixels
    message = CompressedImage(format=format)
    message.data = array.array('B', cv2.imencode(f'.{format}', pixels)[1].tobytes())
    expected = CvBridge().compressed_imgmsg_to_cv2(message)
    image = decode_compressed(message.format, message.data, max_pixels=1_000_000)
    np.testing.assert_array_equal(image.pixels, expected)
