"""Age of a received message, from the middleware and from its stamp."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from rclpy.clock import Clock
from std_msgs.msg import Header


def received_age(info: Mapping[str, Any]) -> float:
    """Return the seconds since the middleware received a message.

    Args:
        info: Message info that rclpy passes to a subscription's callback.

    Returns:
        Age in seconds; 0 if the middleware does not report a time, infinity if the system clock
        was set back while the message waited.
    """
    received = info['received_timestamp']  # nanoseconds of the system clock
    if not received:
        return 0.0
    age = (time.time_ns() - received) / 1e9
    return age if age >= 0.0 else math.inf


def sent_at(info: Mapping[str, Any]) -> float:
    """Return when a message was published, according to the clock of the publisher's machine.

    Args:
        info: Message info that rclpy passes to a subscription's callback.

    Returns:
        Seconds of the steady clock; minus infinity if the middleware does not report it.
    """
    sent = info['source_timestamp']  # nanoseconds of the system clock
    return time.monotonic() - (time.time_ns() - sent) / 1e9 if sent else -math.inf


def stamp_age(header: Header, clock: Clock) -> float:
    """Return the seconds since a message's stamp; negative if the stamp is in the future.

    Args:
        header: Header of the message.
        clock: Clock of the node.

    Returns:
        Age in seconds; 0 if it is unknown: the message has no stamp, or nothing has published
        /clock yet.
    """
    stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
    now_ns = clock.now().nanoseconds
    return (now_ns - stamp_ns) / 1e9 if stamp_ns and now_ns else 0.0
