"""How long a message has waited between the middleware and its callback."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def age_since_reception(info: Mapping[str, Any]) -> float:
    """Return the seconds for which a message has waited for its callback.

    What queued while the executor was late is as old as that, whenever its callback runs.

    Args:
        info: What rclpy gives a callback besides the message.

    Returns:
        At least 0; 0 where the middleware does not tell when it received the message.
    """
    received = info.get('received_timestamp') or 0  # nanoseconds, wall clock
    return max(0.0, (time.time_ns() - received) / 1e9) if received else 0.0
