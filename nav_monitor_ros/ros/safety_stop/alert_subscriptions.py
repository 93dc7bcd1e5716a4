"""The two subscriptions of ``safety_stop`` to ``ood_alert``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Bool

from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import reliable
from nav_monitor_ros.ros.qos_overrides import fixed

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

DEPTH = 10  # so that one publisher's False cannot push another's True out of the queue


class AlertSubscriptions:
    """Two subscriptions to the alert: one for its messages, one for the middleware's events.

    The first subscription requests neither deadline nor liveliness, so every reliable publisher
    matches it. The second one requests both and serves only for their events: a publisher that
    offers less does not match it, but its messages still arrive through the first one.

    Both are volatile: the alert is repeated anyway, and a late joiner must not mistake for a
    current alert the False that a monitor published before it hung.
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
            node: Node that owns the subscriptions.
            timeout: Deadline and liveliness lease to request, in seconds.
            log: Log for a warning if the middleware does not support these events.
            on_alert: Callback for each message, with its info.
            on_deadline_missed: Callback for a missed deadline.
            on_liveliness_changed: Callback for a change of liveliness.
            on_incompatible_qos: Callback for a publisher that does not offer such a deadline or
                lease.
        """
        self._on_alert = on_alert
        # No default listeners: the diagnostics report endpoints that do not match, with a remedy.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        self._messages = node.create_subscription(
            Bool, 'ood_alert', on_alert, reliable(DEPTH), event_callbacks=quiet,
            qos_overriding_options=fixed(reliable(DEPTH), 'no True may be missed'),
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
                Bool, 'ood_alert', lambda message: None, requested, event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions([]),  # those of the other one apply
            )
        except UnsupportedEventTypeError:
            log.warning(
                'this middleware reports neither missed deadlines nor lost liveliness: ood_alert '
                'is monitored by its timeout only'
            )

    @property
    def topic(self) -> str:
        """Resolved topic of the alert."""
        return str(self._messages.topic_name)

    def take_waiting(self) -> None:
        """Process all alerts that have arrived, ahead of the executor's order."""
        while True:
            with self._messages.handle:
                taken = self._messages.handle.take_message(Bool, False)
            if taken is None:
                return
            self._on_alert(*taken)
