"""Qualities of service that several topics share."""

from __future__ import annotations

from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks


def reliable(depth: int) -> QoSProfile:
    """Return a profile that sends again what was lost, for the last ``depth`` messages."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched(**more: Any) -> QoSProfile:
    """Return a profile that tells late joiners the last message; ``more`` are further policies."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        **more,
    )


def unattended() -> dict[str, Any]:
    """Return further arguments for publishers whose subscribers' mistakes are theirs to notice.

    By default rclpy listens for subscribers with an incompatible quality of service, to log a line
    as the subscriber's side does, too. The executor looks at each of these listeners whenever
    anything happens: with four cameras they were half of its work.
    """
    return {'event_callbacks': PublisherEventCallbacks(use_default_callbacks=False)}
