"""The executable ``camera``: publishes stored images like a camera."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.ros.camera.parameters import CAMERA_PARAMETERS
from nav_monitor_ros.ros.camera.script import Segment, read_script
from nav_monitor_ros.ros.declared_parameters import declare, warn_of_unknown
from nav_monitor_ros.ros.messages import byte_array
from nav_monitor_ros.ros.parameter_requests import ParameterRequests
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.process.process import StopRequest, run
from nav_monitor_ros.ros.process.spinning import serve
from nav_monitor_ros.ros.process.usage import Usage
from nav_monitor_ros.ros.qos_overrides import OverridableTopics

_FROM_RGB = {
    'rgb8': None,
    'bgr8': cv2.COLOR_RGB2BGR,
    'rgba8': cv2.COLOR_RGB2RGBA,
    'bgra8': cv2.COLOR_RGB2BGRA,
    'mono8': cv2.COLOR_RGB2GRAY,
}
_PIXEL_ART = 64  # images up to this size are enlarged without smoothing, to keep pixels sharp


def fit_into(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale an image to fit the frame and centre it on black.

    Args:
        image: Image, uint8 (H, W, 3) or (H, W).
        width: Width of the frame in pixels; 0: that of the image, scaled to the height.
        height: Height of the frame in pixels; 0: that of the image, scaled to the width.

    Returns:
        Frame, uint8 (height, width, 3).
    """
    rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    rows, columns = rgb.shape[:2]
    if not width and not height:
        return rgb
    width = width or max(1, round(columns * height / rows))
    height = height or max(1, round(rows * width / columns))
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    enlarging = cv2.INTER_NEAREST if max(rgb.shape[:2]) <= _PIXEL_ART else cv2.INTER_LINEAR
    scaled = cv2.resize(rgb, size, interpolation=enlarging if scale > 1 else cv2.INTER_AREA)
    frame = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    frame[top : top + size[1], left : left + size[0]] = scaled
    return frame


class CameraNode(OverridableTopics, Node):
    """Node that publishes images at a steady rate, stamped with the time of publication.

    At the start of each segment, a header is published on ``~/segment``: its ``frame_id`` is the
    segment's name, and its ``stamp`` that of the segment's first image.
    """

    def __init__(self) -> None:
        """Open the sources and start publishing.

        Raises:
            NavMonitorError: A parameter or a source cannot be used.
        """
        super().__init__('camera', start_parameter_services=False)
        self._values = declare(self, CAMERA_PARAMETERS)
        self._parameter_service = ParameterRequests(self)
        script = self._values['script']
        self._segments = (
            read_script(Path(script), self._values['rate'])
            if script
            else [Segment('source', open_source(self._values['source']), 0.0)]
        )
        for note in (note for segment in self._segments for note in segment.source.notes):
            self.get_logger().warning(note)
        self.done = False  # the script has ended
        self._frames = self._play()
        compressed = self._values['image_transport'] == 'compressed'
        reliable = self._values['reliability'] == 'reliable'
        self._publisher = self.create_publisher(
            CompressedImage if compressed else Image,
            self.resolve_topic_name('image') + '/compressed' if compressed else 'image',
            QoSProfile(
                depth=1,
                reliability=ReliabilityPolicy.RELIABLE
                if reliable
                else ReliabilityPolicy.BEST_EFFORT,
            ),
        )
        self._told_borders = False
        self._segment_publisher = self.create_publisher(
            Header,
            '~/segment',
            QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )
        self.create_timer(
            1.0 / self._values['rate'], self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        known = [parameter.name for parameter in CAMERA_PARAMETERS]
        warn_of_unknown(self, self.get_logger(), known=known)
        names = ', '.join(f'{s.name} ({len(s.source)} images)' for s in self._segments)
        self.get_logger().info(f'playing {names} on {self._publisher.topic_name}')

    def _play(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the frames, each with the name of the segment that it begins, or ''."""
        rate, hold = self._values['rate'], self._values['hold']
        size = self._values['width'], self._values['height']
        positions = [0] * len(self._segments)  # a repeated segment continues where it stopped
        while True:
            for number, segment in enumerate(self._segments):
                picture = None
                for frame in range(segment.frames(rate, hold)):
                    if picture is None or frame % hold == 0:
                        image = segment.source.image(positions[number] % len(segment.source))
                        positions[number] += 1
                        picture = fit_into(image, *size)
                        self._tell_borders(image.shape[:2], picture.shape[:2])
                    yield segment.name if frame == 0 else '', picture
            if not self._values['loop']:
                return

    def _tell_borders(self, image: tuple[int, ...], frame: tuple[int, ...]) -> None:
        """Log once that images get black borders, which a network may not know from training."""
        if not self._told_borders and abs(image[0] * frame[1] / (image[1] * frame[0]) - 1) > 0.02:
            self._told_borders = True
            self.get_logger().info(
                f'images of {image[1]} x {image[0]} are scaled and padded with black to '
                f'{frame[1]} x {frame[0]}; set width and height to 0 to publish them unchanged'
            )

    def _tick(self) -> None:
        try:
            segment, rgb = next(self._frames)
        except StopIteration:
            self.done = True
            return
        header = Header(
            stamp=self.get_clock().now().to_msg(), frame_id=self._values['frame_id']
        )
        if segment:
            self._segment_publisher.publish(Header(stamp=header.stamp, frame_id=segment))
        self._publisher.publish(self._message(header, rgb))

    def _message(self, header: Header, rgb: np.ndarray) -> Image | CompressedImage:
        if self._values['image_transport'] == 'compressed':
            _, encoded = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
            message = CompressedImage(header=header, format='bgr8; jpeg compressed bgr8')
            message.data = byte_array(encoded)
            return message
        encoding = self._values['encoding']
        conversion = _FROM_RGB[encoding]
        pixels = rgb if conversion is None else cv2.cvtColor(rgb, conversion)
        height, width = pixels.shape[:2]
        raw = Image(
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            step=pixels.nbytes // height,
        )
        raw.data = byte_array(pixels)
        return raw


def main(args: list[str] | None = None) -> int:
    """Run the camera until its script ends or a signal arrives.

    Returns:
        Exit status: 0 on success; 1 if a parameter or a source cannot be used, and 70 if the node
        fails, after one line with the reason.
    """
    usage = Usage(
        'camera', 'Plays folders, arrays, samples or a script of them as a camera.',
        '-p source:=sample:triangles -p rate:=10.0 -r image:=/camera/image_raw',
        CAMERA_PARAMETERS,
    )
    return run('camera', CameraNode, _play, args, usage)


def _play(node: CameraNode, stop: StopRequest) -> int:
    serve(node, lambda: stop.is_set() or node.done, QueuedLog(node.get_logger()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
