"""How much later than usual messages arrive, although the clocks of two machines may differ."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.ros.topic_endpoints import gid

WINDOW = 10.0  # seconds of regular reception over which the smallest delay counts as usual
LONGEST_GAP = 0.25  # seconds; a longer pause in the reception counts as this long
MOST_PUBLISHERS = 32


class TransportDelay:
    """Delay of the messages of one topic, beyond the smallest one of the same publisher.

    The middleware of a reliable publisher resends messages that were lost, even if the publisher's
    program hangs. Such a message is old, but the time of its reception does not show this. The
    time from sending to reception does, apart from the offset between the clocks of two machines;
    its smallest value is taken for this offset and the usual delay.

    The smallest value is that of the last ``WINDOW`` seconds in which messages arrived regularly:
    so it follows clocks that drift, or are set, but neither silence nor a burst of resent messages
    makes it forget what is usual. Before Kilted, rclpy does not say which publisher a message is
    from, and all of a topic count as one.
    """

    def __init__(self) -> None:
        """Start without knowing any publisher."""
        self._usual: OrderedDict[bytes, _SmallestDelay] = OrderedDict()

    def excess(self, info: Mapping[str, Any]) -> float:
        """Return the seconds by which a message is later than usual.

        Args:
            info: Message info that rclpy passes to a subscription's callback; to be called for
                every message of the topic, in order.

        Returns:
            At least 0; 0 if the middleware does not report both times, and for the first message
            of a publisher.
        """
        sent, received = info['source_timestamp'], info['received_timestamp']  # nanoseconds
        if not (sent and received):
            return 0.0
        publisher = info.get('publisher_gid')
        key = b'' if publisher is None else gid(publisher['data'])
        usual = self._usual.setdefault(key, _SmallestDelay())
        self._usual.move_to_end(key)
        if len(self._usual) > MOST_PUBLISHERS:
            self._usual.popitem(last=False)
        delay = (received - sent) / 1e9
        return delay - usual.after(delay, time.monotonic())


class _SmallestDelay:
    """Smallest delay of the last messages of one publisher."""

    def __init__(self) -> None:
        # Candidates: time of regular reception, and delay; the delays increase.
        self._smallest: deque[tuple[float, float]] = deque()
        self._regular = 0.0  # seconds of regular reception so far
        self._last: float | None = None

    def after(self, delay: float, now: float) -> float:
        """Take the delay of the next message and return the smallest one, both in seconds."""
        if self._last is not None:
            self._regular += min(max(0.0, now - self._last), LONGEST_GAP)
        self._last = now
        while self._smallest and self._smallest[-1][1] >= delay:
            self._smallest.pop()
        self._smallest.append((self._regular, delay))
        while self._smallest[0][0] < self._regular - WINDOW:
            self._smallest.popleft()
        return self._smallest[0][1]
