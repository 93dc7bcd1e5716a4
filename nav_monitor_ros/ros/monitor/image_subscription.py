"""A subscription to images that takes whatever quality of service the cameras offer."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from nav_monitor_ros.ros.message_age import received_age
from nav_monitor_ros.ros.monitor.camera_alerts import CameraAlert
from nav_monitor_ros.ros.monitor.latest_frame_queue import FrameSlot, QueuedFrame
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.topic_endpoints import publishers_of

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

REMEDY = (
    'publish reliably, or start the publisher with the middleware profile config/fastdds.xml of '
    'this package (larger shared memory)'
)
LOSS_PERIOD = 5.0  # seconds over which lost images are counted
LOST_IMAGES = 10  # of that period from which they are worth a word
SILENCE = 2.0  # seconds without an image after which a best-effort publisher is suspected
_TYPES = {Image: 'sensor_msgs/msg/Image', CompressedImage: 'sensor_msgs/msg/CompressedImage'}


@dataclass(frozen=True)
class Publishers:
    """Who publishes on the topic."""

    reliable: int
    best_effort: int
    other_types: tuple[str, ...]  # message types of publishers that cannot be received

    @property
    def count(self) -> int:
        """Return how many publishers can be received."""
        return self.reliable + self.best_effort


class ImageSubscription:
    """Subscribes reliably if every publisher offers it, else with best effort.

    A best-effort subscription to a large image can see nothing at all: its fragments overflow the
    middleware's buffers and are not sent again. A reliable subscription is not even connected to a
    best-effort publisher. So the publishers are looked at again and again. Belongs to the executor
    thread.
    """

    def __init__(
        self,
        node: LifecycleNode,
        log: QueuedLog,
        transport: str,
        name: str,
        alert: CameraAlert,
        slot: FrameSlot,
    ) -> None:
        """Subscribe to a name relative to the node's namespace.

        Args:
            node: Owns the subscription.
            log: Gets a line when the reliability changes.
            transport: ``raw`` or ``compressed``, which listens to ``image/compressed``.
            name: The topic without ``/compressed``.
            alert: Is told of each image as it arrives.
            slot: Gets each image while ``enabled``.
        """
        self._node = node
        self._log = log
        self._alert = alert
        self._slot = slot
        self.enabled = True
        self._name = name
        self.type = CompressedImage if transport == 'compressed' else Image
        # Given as it is in the code, or remappings would be applied to a resolved name again.
        self._asked = name
        topic = node.resolve_topic_name(name)
        if transport == 'compressed' and not topic.endswith('/compressed'):
            self._asked = f'{topic}/compressed'
        self.topic = node.resolve_topic_name(self._asked)
        self.reliability = ReliabilityPolicy.RELIABLE
        self.lost = 0  # messages that the middleware says it lost
        self.received = 0
        self.last_arrival = time.monotonic()  # of an image, or when the subscription began
        self._counts: deque[tuple[float, int, int]] = deque()  # time, lost, received
        self.publishers = self._look()
        self._subscribe()

    def follow(self) -> None:
        """Look at the publishers; subscribe anew where another reliability serves them all."""
        now = time.monotonic()
        self._counts.append((now, self.lost, self.received))
        while now - self._counts[0][0] > LOSS_PERIOD:
            self._counts.popleft()
        self.publishers = self._look()
        if self._wanted() != self.reliability:
            self._node.destroy_subscription(self._subscription)
            self._subscribe()
            self._log.info(
                f'listening to {self.topic} with {self.reliability.name.lower()} reliability'
            )

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)

    def connection_fault(self) -> str:
        """Return why no publisher can be received and how to mend it, or nothing."""
        seen = self.publishers
        if seen.other_types and not seen.count:
            return (
                f'{self.topic} carries {", ".join(seen.other_types)}, not {_TYPES[self.type]}; '
                f'set image_transport or remap {self._name}'
            )
        if not seen.count:
            return f'nobody publishes {self.topic}; remap {self._name} or start the camera'
        return ''

    def loss_report(self) -> str:
        """Return that the transport loses images and how to mend it, or nothing."""
        if not self.publishers.best_effort:
            return ''
        silent = time.monotonic() - self.last_arrival
        if silent > SILENCE:
            return f'a best-effort publisher of {self.topic} is there, but nothing comes: {REMEDY}'
        _, lost, received = self._counts[0] if self._counts else (0.0, self.lost, self.received)
        lost, received = self.lost - lost, self.received - received
        if lost < LOST_IMAGES:
            return ''
        return (
            f'{lost} of {lost + received} images of a best-effort publisher of {self.topic} were '
            f'lost on their way: {REMEDY}'
        )

    def _look(self) -> Publishers:
        found = publishers_of(self._node, self.topic)
        ours = [p for p in found if p.topic_type == _TYPES[self.type]]
        reliable = sum(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in ours)
        others = sorted({p.topic_type for p in found} - {_TYPES[self.type]})
        return Publishers(reliable, len(ours) - reliable, tuple(others))

    def _wanted(self) -> ReliabilityPolicy:
        if not self.publishers.count:
            return self.reliability  # nobody to please: stay
        if self.publishers.best_effort:
            return ReliabilityPolicy.BEST_EFFORT
        return ReliabilityPolicy.RELIABLE

    def _subscribe(self) -> None:
        self.reliability = self._wanted()
        self._subscription = self._node.create_subscription(
            self.type,
            self._asked,
            self._receive,
            QoSProfile(depth=1, reliability=self.reliability),
            event_callbacks=SubscriptionEventCallbacks(
                message_lost=self._note_lost,
                use_default_callbacks=False,  # publishers are looked at anyway
            ),
        )

    def _receive(self, message: Image | CompressedImage, info: Mapping[str, Any]) -> None:
        self.received += 1
        waited = received_age(info)
        if waited == math.inf:
            return  # nobody knows how old it is; the next one is as good
        arrived = self.last_arrival = time.monotonic() - waited
        # Before Kilted the middleware does not tell publishers apart; frame ids mostly do.
        publisher = (message.header.frame_id, repr(info.get('publisher_gid')))
        self._alert.image_arrived(publisher, arrived)
        if self.enabled:
            stamp = message.header.stamp
            now = self._node.get_clock().now().nanoseconds
            stamp_age = (now - stamp.sec * 1_000_000_000 - stamp.nanosec) / 1e9 - waited
            self._slot.put(QueuedFrame(message, arrived, stamp_age))

    def _note_lost(self, event: Any) -> None:
        self.lost += event.total_count_change
