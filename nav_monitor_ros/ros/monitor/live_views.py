"""``~/overlay``, ``~/activations`` and ``~/activation_volume``, published only if subscribed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.network.layers import Layer
from nav_monitor_ros.ros.messages import cloud_message, compressed_message, image_message
from nav_monitor_ros.ros.qos import reliable, unattended
from nav_monitor_ros.runtime.monitor import Monitor, Observation
from nav_monitor_ros.views.activation_maps import draw_activations, image_scale
from nav_monitor_ros.views.overlay import draw_overlay
from nav_monitor_ros.views.volume import cloud

# Number of pictures for which lost fragments can be resent.
_DEPTH = 5


class _View:
    """Picture that is published raw and compressed, at a limited rate."""

    def __init__(self, node: LifecycleNode, name: str) -> None:
        topic = f'~/{name}'
        self._raw = node.create_publisher(
            Image, topic, reliable(_DEPTH), **unattended()
        )
        self._compressed = node.create_publisher(
            CompressedImage, f'{topic}/compressed', reliable(1), **unattended()
        )
        self._next = 0.0  # earliest time of the next picture, seconds on the steady clock

    @property
    def watched(self) -> bool:
        return bool(
            self._raw.get_subscription_count() or self._compressed.get_subscription_count()
        )

    def is_due(self, now: float) -> bool:
        return now >= self._next and self.watched

    def publish(self, header: Header, rgb: np.ndarray, period: float) -> None:
        now = time.monotonic()
        # Advancing the due time by whole periods keeps the mean rate; missed pictures are not made
        # up for.
        self._next = max(self._next + period, now)
        if self._raw.get_subscription_count():
            self._raw.publish(image_message(header, rgb))
        if self._compressed.get_subscription_count():
            self._compressed.publish(compressed_message(header, rgb))


class _CloudView:
    """Volume that is published as a point cloud, at a limited rate."""

    def __init__(self, node: LifecycleNode, name: str) -> None:
        self._publisher = node.create_publisher(
            PointCloud2, f'~/{name}', reliable(1), **unattended()
        )
        self._next = 0.0  # earliest time of the next cloud, seconds on the steady clock

    def is_due(self, now: float) -> bool:
        return now >= self._next and self._publisher.get_subscription_count() > 0

    def publish(self, header: Header, points: np.ndarray, period: float) -> None:
        self._next = max(self._next + period, time.monotonic())
        self._publisher.publish(cloud_message(header, points))


@dataclass(frozen=True)
class _Drawing:
    """Drawing of one layer for one frame, with the current parameters."""

    maps: np.ndarray  # float32, see ``Layer.as_maps``
    layer: Layer
    monitor: Monitor
    values: Mapping[str, Any]

    def tiles(self) -> np.ndarray:
        return draw_activations(
            self.maps,
            scale=self._scale,
            layer=self.layer.label,
            channels=self.values['activation_channels'],
            order=self.values['activation_order'],
            colormap=self.values['activation_colormap'],
            trained=self.values['activation_scale'] == 'training',
        )

    def points(self) -> np.ndarray:
        return cloud(
            self.maps,
            self._scale,
            channels=self.values['activation_channels'],
            colormap=self.values['activation_colormap'],
        )

    @property
    def _scale(self) -> tuple[float, float]:
        if self.values['activation_scale'] == 'image':
            return image_scale(self.maps)
        return self.monitor.bundle.layer_ranges[self.layer.name]


class LiveViews:
    """Pictures for subscribers. Only one thread may draw; any may check what is due."""

    def __init__(self, node: LifecycleNode, prefix: str = '') -> None:
        """Create the publishers.

        Args:
            node: Node that owns the publishers.
            prefix: Prefix of their names; ends in a slash unless it is empty.
        """
        self._overlay = _View(node, f'{prefix}overlay')
        self._activations = _View(node, f'{prefix}activations')
        self._volume = _CloudView(node, f'{prefix}activation_volume')
        self._last_rgb: np.ndarray | None = None
        self.drawn = 0  # pictures drawn since the start
        self.times: deque[float] = deque(maxlen=300)  # drawing times of the last ones, seconds

    def need_maps(self) -> bool:
        """Return whether a picture is due that shows the maps of a layer."""
        now = time.monotonic()
        return self._activations.is_due(now) or self._volume.is_due(now)

    def is_due(self) -> bool:
        """Return whether any picture is due."""
        return self._overlay.is_due(time.monotonic()) or self.need_maps()

    def show(
        self,
        header: Header,
        image: DecodedImage,
        observation: Observation,
        alert: Alert,
        monitor: Monitor,
        values: Mapping[str, Any],
    ) -> None:
        """Draw and publish the pictures that are due."""
        period = 1.0 / values['view_rate']
        if self._overlay.is_due(time.monotonic()):
            self._last_rgb = rgb = image.rgb()
            picture = self._timed(lambda: draw_overlay(rgb, observation.verdict, alert))
            self._overlay.publish(header, picture, period)
        for name, maps in observation.activations.maps.items():
            layer = monitor.spatial_layer(name)
            drawing = _Drawing(layer.as_maps(maps[0]), layer, monitor, values)
            if self._activations.is_due(time.monotonic()):
                self._activations.publish(header, self._timed(drawing.tiles), period)
            if self._volume.is_due(time.monotonic()):
                self._volume.publish(header, self._timed(drawing.points), period)

    def show_fault(self, header: Header, alert: Alert, values: Mapping[str, Any]) -> None:
        """Show on the overlay, over the last image, that nothing can be judged."""
        if self._overlay.is_due(time.monotonic()):
            picture = self._timed(lambda: draw_overlay(self._last_rgb, None, alert))
            self._overlay.publish(header, picture, 1.0 / values['view_rate'])

    def _timed(self, draw: Callable[[], np.ndarray]) -> np.ndarray:
        start = time.perf_counter()
        drawn = draw()
        self.times.append(time.perf_counter() - start)
        self.drawn += 1
        return drawn
