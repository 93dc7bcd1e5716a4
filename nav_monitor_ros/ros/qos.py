"""QoS profiles that several topics share."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

DEADLINE_PERIODS = 3  # offered deadline of a topic that is repeated, in periods
LEASE_PERIODS = 5  # its liveliness lease and its lifespan


def reliable(depth: int) -> QoSProfile:
    """Return a profile that resends lost messages among the last ``depth`` ones."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched(**more: Any) -> QoSProfile:
    """Return a profile that sends the last message to late joiners; ``more``: further policies."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        **more,
    )


def repeated(rate: float) -> QoSProfile:
    """Return a latched profile for a topic that is repeated, and whose silence means something.

    It offers a deadline and a manual-by-topic liveliness lease. The middleware resends a lost
    message only within the lifespan: later, it would be mistaken for the current one.

    Args:
        rate: Least publication rate, Hz.
    """
    return latched(
        deadline=Duration(seconds=DEADLINE_PERIODS / rate),
        liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
        liveliness_lease_duration=Duration(seconds=LEASE_PERIODS / rate),
        lifespan=Duration(seconds=LEASE_PERIODS / rate),
    )


def unattended() -> dict[str, Any]:
    """Return arguments for publishers that do not report subscribers with an incompatible QoS.

    By default, rclpy listens for such subscribers in order to log a line, which the subscriber's
    process also logs. The executor checks each of these listeners at every event; with four
    cameras they took half of its time.
    """
    return {'event_callbacks': PublisherEventCallbacks(use_default_callbacks=False)}
