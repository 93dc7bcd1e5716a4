"""How old a received message is, by the middleware and by its stamp."""

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
        info: As rclpy gives it to a subscription's callback.

    Returns:
        0 where the middleware has no such stamp, infinity where the system's clock was put back
        while the message waited.
    """
    received = info['received_timestamp']  # nanoseconds of the system clock
    if not received:
        return 0.0
    age = (time.time_ns() - received) / 1e9
    return age if age >= 0.0 else math.inf


def stamp_age(header: Header, clock: Clock) -> float:
    """Return a message's age by its stamp in seconds, negative in the future.

    Args:
        header: Of the message.
        clock: Of the node.

    Returns:
        0 where the age is unknown: the message has no stamp, or nothing publishes /clock yet.
    """
    made = header.stamp.sec * 10**9 + header.stamp.nanosec
    now = clock.now().nanoseconds
    return (now - made) / 1e9 if made and now else 0.0
