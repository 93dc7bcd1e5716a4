"""Subscription to images that adapts to the QoS of the cameras."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from nav_monitor_ros.ros import qos_overrides
from nav_monitor_ros.ros.message_age import received_age, sent_at
from nav_monitor_ros.ros.monitor.camera_alerts import CameraAlert
from nav_monitor_ros.ros.monitor.latest_frame_queue import FrameSlot, QueuedFrame
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.suspension import Input
from nav_monitor_ros.ros.topic_endpoints import publishers_of
from nav_monitor_ros.ros.transport_delay import TransportDelay

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

REMEDY = (
    'publish reliably, or start the publisher with the middleware profile config/fastdds.xml of '
    'this package (larger shared memory)'
)
LOSS_PERIOD = 5.0  # seconds over which lost images are counted
LOST_IMAGES = 10  # smallest number of images lost in that period that is reported
SILENCE = 2.0  # seconds without an image after which the transport is suspected
_TYPES = {Image: 'sensor_msgs/msg/Image', CompressedImage: 'sensor_msgs/msg/CompressedImage'}


@dataclass(frozen=True)
class Publishers:
    """Numbers and types of the publishers on the topic."""

    reliable: int
    best_effort: int
    other_types: tuple[str, ...]  # message types of publishers that cannot be received

    @property
    def count(self) -> int:
        """Number of publishers that can be received."""
        return self.reliable + self.best_effort


def subscribed_name(node: Node, name: str, transport: str) -> str:
    """Return the name to subscribe to for images, to which remappings are then applied.

    Args:
        node: Node that subscribes.
        name: Name of the topic without ``/compressed``.
        transport: ``raw``, or ``compressed`` to subscribe to ``image/compressed``.
    """
    topic = node.resolve_topic_name(name)
    if transport == 'compressed' and not topic.endswith('/compressed'):
        return f'{topic}/compressed'
    return name  # unresolved, because remappings would be applied to a resolved one again


class ImageSubscription:
    """Subscription that is reliable if every publisher is, and best-effort otherwise.

    A QoS override of the reliability takes precedence.

    A best-effort subscription to large images may receive nothing, because the fragments overflow
    the middleware's buffers and are not resent. A reliable subscription, however, does not match a
    best-effort publisher. Therefore the publishers are checked regularly. Used by the executor's
    thread only.
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
            node: Node that owns the subscription.
            log: Log for a line when the reliability changes.
            transport: ``raw``, or ``compressed`` to subscribe to ``image/compressed``.
            name: Name of the topic without ``/compressed``.
            alert: Alert that is notified of each arriving image.
            slot: Slot for the images, which is filled while ``enabled``.
        """
        self._node = node
        self._log = log
        self._alert = alert
        self._slot = slot
        self.enabled = True
        self._name = name
        self.type = CompressedImage if transport == 'compressed' else Image
        self._asked = subscribed_name(node, name, transport)
        self.topic = node.resolve_topic_name(self._asked)
        self._fixed = qos_overrides.fixed_reliability(node, self.topic)
        self.reliability = ReliabilityPolicy.RELIABLE
        self.lost = 0  # messages that the middleware reports as lost
        self.received = 0
        self.last_arrival = time.monotonic()  # of an image, or the start of the subscription
        self._delay = TransportDelay()
        self._last_sent = -math.inf  # according to the publisher's machine, s of the steady clock
        self._counts: deque[tuple[float, int, int]] = deque()  # time, lost, received
        self.publishers = self._look()
        self._subscription: Subscription | None = None
        self._subscribe()

    def follow(self) -> None:
        """Check the publishers; renew the subscription if another reliability suits all."""
        now = time.monotonic()
        self._counts.append((now, self.lost, self.received))
        while now - self._counts[0][0] > LOSS_PERIOD:
            self._counts.popleft()
        self.publishers = self._look()
        if self._subscription is None or self._wanted() != self.reliability:
            self.close()
            self._subscribe()
            self._log.info(
                f'subscribed to {self.topic} with {self.reliability.name.lower()} reliability'
            )

    def close(self) -> None:
        """End the subscription."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    @property
    def input(self) -> Input:
        """Return what is known of the images, for ``LostInput``."""
        return Input(self.publishers.count, self.received, self.last_arrival, self._last_sent)

    def connection_fault(self) -> str:
        """Return why no publisher can be received, with a remedy; '' if one can."""
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
        """Return how many images the transport loses, with a remedy; '' if few."""
        if not self.publishers.best_effort:
            return ''
        silent = time.monotonic() - self.last_arrival
        if silent > SILENCE:
            return f'{self.topic} has a best-effort publisher, but no image arrives: {REMEDY}'
        _, lost, received = self._counts[0] if self._counts else (0.0, self.lost, self.received)
        lost, received = self.lost - lost, self.received - received
        if lost < LOST_IMAGES:
            return ''
        return (
            f'{lost} of {lost + received} images of a best-effort publisher of {self.topic} were '
            f'lost in transport: {REMEDY}'
        )

    def _look(self) -> Publishers:
        found = publishers_of(self._node, self.topic)
        ours = [p for p in found if p.topic_type == _TYPES[self.type]]
        reliable = sum(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in ours)
        others = sorted({p.topic_type for p in found} - {_TYPES[self.type]})
        return Publishers(reliable, len(ours) - reliable, tuple(others))

    def _wanted(self) -> ReliabilityPolicy:
        if self._fixed is not None:
            return self._fixed
        if not self.publishers.count:
            return self.reliability  # unchanged without a publisher
        if self.publishers.best_effort:
            return ReliabilityPolicy.BEST_EFFORT
        return ReliabilityPolicy.RELIABLE

    def _subscribe(self) -> None:
        wanted = self._wanted()
        self._subscription = self._node.create_subscription(
            self.type,
            self._asked,
            self._receive,
            QoSProfile(depth=1, reliability=wanted),
            event_callbacks=SubscriptionEventCallbacks(
                message_lost=self._note_lost,
                use_default_callbacks=False,  # publishers are checked anyway
            ),
            qos_overriding_options=qos_overrides.of_images(self._node, self.topic),
        )
        self.reliability = wanted

    def _receive(self, message: Image | CompressedImage, info: Mapping[str, Any]) -> None:
        self.received += 1
        self._last_sent = sent_at(info)
        late, waited = self._delay.excess(info), received_age(info)
        if waited == math.inf:
            return  # its age is unknown; the next image will do
        arrived = self.last_arrival = time.monotonic() - waited
        # Before Kilted the middleware does not identify publishers; frame ids usually do.
        publisher = (message.header.frame_id, repr(info.get('publisher_gid')))
        self._alert.image_arrived(publisher, arrived)
        if self.enabled:
            stamp = message.header.stamp
            now = self._node.get_clock().now().nanoseconds
            stamp_age = (now - stamp.sec * 1_000_000_000 - stamp.nanosec) / 1e9 - waited
            self._slot.put(QueuedFrame(message, arrived, stamp_age, late))

    def _note_lost(self, event: Any) -> None:
        self.lost += event.total_count_change
