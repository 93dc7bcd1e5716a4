"""Detection of a frozen camera, whose messages contain no new image."""

from __future__ import annotations

REMEMBERED_IMAGES = 8  # different images; a driver has few buffers that can be stuck


class FrozenImages:
    """Detects that no new image arrives, although messages do.

    A driver whose buffers are stuck sends one image again and again, or two or more in turn. An
    image that is among the last different ones is therefore no sign of life.
    """

    def __init__(self) -> None:
        """Start without an image."""
        self._recent: dict[int, None] = {}  # fingerprints, the latest one last
        self._last: float | None = None  # when the last image was judged
        self._repeated: set[int] = set()  # fingerprints since ``since``
        self.since: float | None = None  # time in seconds since which no image was new

    @property
    def count(self) -> int:
        """Number of different images since ``since``."""
        return len(self._repeated)

    def add(self, fingerprint: int, now: float) -> None:
        """Add an image.

        Args:
            fingerprint: A checksum of its pixels.
            now: Seconds.
        """
        if fingerprint in self._recent:
            if self.since is None:
                self.since = self._last
            self._repeated.add(fingerprint)
            del self._recent[fingerprint]
        else:
            self.restart()
        self._recent[fingerprint] = None
        if len(self._recent) > REMEMBERED_IMAGES:
            del self._recent[next(iter(self._recent))]
        self._last = now

    def restart(self) -> None:
        """Restart the measurement of the time without a new image."""
        self.since = None
        self._repeated.clear()
