"""Detection of several publishers of images on one topic."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable

TOGETHER = 1.0  # a publisher that returns within this time, in seconds, was never gone
UNKNOWN_PERIOD = 5.0  # seconds to wait for a publisher whose period is not yet known
PERIODS = 2.5  # number of a publisher's own periods after which it is gone
OTHERS = 3  # images of others without one of it after which a publisher may be gone
LONGEST_PERIOD = 60.0  # seconds; slower publishers are not distinguished
MOST_PUBLISHERS = 200  # largest number remembered, in case every image has another publisher


class MixedPublishers:
    """Detects several publishers on one topic, whose images alternate.

    Evidence, the check for frozen images and the last stamp all belong to one camera. Publishers
    cannot just be counted: one that was killed stays in the graph for many seconds, so that a
    camera that was restarted would count twice. A publisher that returns after another one was
    never gone if it returns in its own time, however slow it is. Once found, several publishers
    remain found through a stall of the machine or of the network, during which none of them is
    heard: one is gone only after the others have sent several images without it.
    """

    def __init__(self) -> None:
        """Start without a publisher."""
        self._last: Hashable = None
        self._seen: dict[Hashable, float] = {}  # arrival of each one's last image, oldest first
        self._periods: dict[Hashable, deque[float]] = {}  # seconds between each one's last images
        self._others: dict[Hashable, int] = {}  # images of others since each one's last image
        self._mixed: set[Hashable] = set()  # publishers that were present when two alternated

    def image_from(self, publisher: Hashable, now: float) -> bool:
        """Record the publisher of an image.

        Args:
            publisher: Equal for images of one publisher.
            now: Seconds.

        Returns:
            Whether several publishers send: one came back after another within its own time.
        """
        before = self._seen.pop(publisher, None)
        if before is not None:
            in_time = now - before <= self._patience(publisher, TOGETHER)
            if publisher != self._last and (in_time or publisher in self._mixed):
                self._mixed = {*self._mixed, *self._seen, publisher}
            self._periods.setdefault(publisher, deque(maxlen=3)).append(now - before)
        self._last = publisher
        for one in self._others:
            self._others[one] += 1
        self._seen[publisher], self._others[publisher] = now, 0
        stalled = publisher in self._mixed
        for one in list(self._seen):
            if len(self._seen) > MOST_PUBLISHERS or self._is_gone(
                    one, now, LONGEST_PERIOD, stalled):
                del self._seen[one], self._others[one]
                self._periods.pop(one, None)
        self._mixed = {
            one
            for one in self._mixed & self._seen.keys()
            if not self._is_gone(one, now, UNKNOWN_PERIOD, stalled)
        }
        if len(self._mixed) == 1:
            self._mixed.clear()
        return bool(self._mixed)

    def _is_gone(self, publisher: Hashable, now: float, unknown: float, stalled: bool) -> bool:
        """Return whether a publisher is gone.

        Args:
            publisher: To look for.
            now: Seconds.
            unknown: As for ``_patience``.
            stalled: Whether silence may be a stall: one of several publishers is heard again.
        """
        if stalled and publisher in self._mixed and self._others[publisher] < OTHERS:
            return False
        return now - self._seen[publisher] > self._patience(publisher, unknown)

    def _patience(self, publisher: Hashable, unknown: float) -> float:
        """Return the seconds after which a publisher is gone; ``unknown`` before its 2nd image."""
        periods = self._periods.get(publisher)
        if periods is None:
            return unknown
        # The median, because a stall makes one period long and the one after it short.
        period = statistics.median_low(periods)
        return min(max(TOGETHER, PERIODS * period), PERIODS * LONGEST_PERIOD)
