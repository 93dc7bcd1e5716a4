"""The two subscriptions of ``safety_stop`` to ``ood_alert``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import reliable

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

DEPTH = 10  # so that one publisher's False cannot push another's True out of the queue


class AlertSubscriptions:
    """Subscribes to the alert for its messages, and once more for the middleware's events.

    The first subscription requests neither deadline nor liveliness, so every reliable publisher
    matches it. The second one requests both and is there for their events only: a publisher that
    offers less does not match it, and its messages still come by the first one.

    Both are volatile: the alert is repeated anyway, and a late joiner must not take for news the
    False that a monitor, hung since, published long ago.
    """

    def __init__(
        self,
        node: Node,
        timeout: float,
        log: QueuedLog,
        *,
        on_alert: Callable[[Bool, Mapping[str, Any]], None],
        on_deadline_missed: Callable[[Any], None],
        on_liveliness_changed: Callable[[Any], None],
        on_incompatible_qos: Callable[[Any], None],
    ) -> None:
        """Subscribe.

        Args:
            node: Subscribes.
            timeout: Deadline and liveliness lease to request, in seconds.
            log: Gets a line where the middleware lacks these events.
            on_alert: Gets each message with its info.
            on_deadline_missed: Gets the middleware's event.
            on_liveliness_changed: Gets the middleware's event.
            on_incompatible_qos: Gets the middleware's event of a publisher that offers no such
                deadline or lease.
        """
        self._on_alert = on_alert
        # No default listeners: the diagnostics find who does not match, with a remedy.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        self._messages = node.create_subscription(
            Bool, 'ood_alert', on_alert, reliable(DEPTH), event_callbacks=quiet
        )
        requested = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            deadline=Duration(seconds=timeout),
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=Duration(seconds=timeout),
        )
        events = SubscriptionEventCallbacks(
            deadline=on_deadline_missed,
            liveliness=on_liveliness_changed,
            incompatible_qos=on_incompatible_qos,
        )
        try:
            node.create_subscription(
                Bool, 'ood_alert', lambda message: None, requested, event_callbacks=events
            )
        except UnsupportedEventTypeError:
            log.warning(
                'this middleware reports neither missed deadlines nor lost liveliness: ood_alert '
                'is watched for silence only'
            )

    @property
    def topic(self) -> str:
        """Return the alert's resolved topic."""
        return str(self._messages.topic_name)

    def take_waiting(self) -> None:
        """Take the alerts that have arrived, whichever the executor would have served first."""
        while True:
            with self._messages.handle:
                taken = self._messages.handle.take_message(Bool, False)
            if taken is None:
                return
            self._on_alert(*taken)
