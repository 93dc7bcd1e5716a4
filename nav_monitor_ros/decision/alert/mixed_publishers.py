"""Detection of several publishers of images on one topic."""

from __future__ import annotations

import math
from collections.abc import Hashable

TOGETHER = 1.0  # a publisher that returns within this time, in seconds, was never gone
UNKNOWN_PERIOD = 5.0  # seconds to wait for a publisher whose period is not yet known
PERIODS = 2.5  # number of a publisher's own periods after which it is gone
LONGEST_PERIOD = 60.0  # seconds; slower publishers are not distinguished
MOST_PUBLISHERS = 200  # largest number remembered, in case every image has another publisher


class MixedPublishers:
    """Detects several publishers on one topic, whose images alternate.

    Evidence, the check for frozen images and the last stamp all belong to one camera. Publishers
    cannot just be counted: one that was killed stays in the graph for many seconds, so that a
    camera that was restarted would count twice. A publisher that returns after another one was
    never gone if it returns in its own time, however slow it is.
    """

    def __init__(self) -> None:
        """Start without a publisher."""
        self._last: Hashable = None
        self._seen: dict[Hashable, float] = {}  # arrival of each one's last image, oldest first
        self._periods: dict[Hashable, float] = {}  # seconds between each one's last two images
        self._mixed: set[Hashable] = set()  # publishers that were present when two alternated
        self._mixed_at = -math.inf

    def image_from(self, publisher: Hashable, now: float) -> bool:
        """Record the publisher of an image.

        Args:
            publisher: Equal for images of one publisher.
            now: Seconds.

        Returns:
            Whether several publishers send: one came back after another within its own time.
        """
        before = self._seen.get(publisher)
        if before is not None:
            if publisher != self._last and now - before <= self._patience(publisher, TOGETHER):
                self._mixed, self._mixed_at = {*self._seen}, now
            self._periods[publisher] = now - before
            del self._seen[publisher]
        self._last = publisher
        self._seen[publisher] = now
        for one, seen in list(self._seen.items()):
            forgotten = len(self._seen) > MOST_PUBLISHERS
            if forgotten or now - seen > self._patience(one, LONGEST_PERIOD):
                del self._seen[one]
                self._periods.pop(one, None)
        # Until the slowest of them would have sent another image, if it still existed.
        self._mixed &= self._seen.keys()
        longest = max((self._patience(one, UNKNOWN_PERIOD) for one in self._mixed), default=0.0)
        if now - self._mixed_at > longest:
            self._mixed.clear()
        return bool(self._mixed)

    def _patience(self, publisher: Hashable, unknown: float) -> float:
        """Return the seconds after which a publisher is gone; ``unknown`` before its 2nd image."""
        period = self._periods.get(publisher)
        if period is None:
            return unknown
        return min(max(TOGETHER, PERIODS * period), PERIODS * LONGEST_PERIOD)
