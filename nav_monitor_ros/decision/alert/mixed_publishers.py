"""Whether several publishers send images on one topic."""

from __future__ import annotations

import math
from collections.abc import Hashable

TOGETHER = 1.0  # seconds within which a publisher that returns was never gone
UNKNOWN_PERIOD = 5.0  # seconds that a publisher is waited for whose period is not known yet
PERIODS = 2.5  # of a publisher's own images, after which it is gone
LONGEST_PERIOD = 60.0  # seconds; slower publishers are not told apart
MOST_PUBLISHERS = 200  # remembered, in case every image names another one


class MixedPublishers:
    """Notices several publishers on one topic, whose images come in turn.

    Evidence, the check for frozen images and the last stamp all belong to one camera. Publishers
    cannot just be counted: one that was killed stays in the graph for many seconds, so that a
    camera that was restarted would count twice. A publisher that returns after another one was
    never gone if it returns in its own time, however slow it is.
    """

    def __init__(self) -> None:
        """Start without a publisher."""
        self._last: Hashable = None
        self._seen: dict[Hashable, float] = {}  # when each one's last image came, oldest first
        self._periods: dict[Hashable, float] = {}  # between each one's last two images, seconds
        self._mixed: set[Hashable] = set()  # those that were seen when two of them took turns
        self._mixed_at = -math.inf

    def image_from(self, publisher: Hashable, now: float) -> bool:
        """Take in from whom an image came.

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
        # Until the slowest of them would have come back, if it were still there.
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
