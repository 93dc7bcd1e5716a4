"""Whether a camera is frozen: its messages show no new image."""

from __future__ import annotations

REMEMBERED_IMAGES = 8  # different images; a driver has few buffers that can be stuck


class FrozenImages:
    """Notices that no new image comes, although messages do.

    A driver whose buffers are stuck sends one image again and again, or two or more in turn. An
    image that is among the last different ones is therefore no sign of life.
    """

    def __init__(self) -> None:
        """Start without an image."""
        self._recent: dict[int, None] = {}  # fingerprints, the one that was seen last at the end
        self._last: float | None = None  # when the last image was judged
        self._repeated: set[int] = set()  # fingerprints since ``since``
        self.since: float | None = None  # seconds; from then on no image was a new one

    @property
    def count(self) -> int:
        """Return how many different images have come since ``since``."""
        return len(self._repeated)

    def add(self, fingerprint: int, now: float) -> None:
        """Take in an image.

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
        """Measure the time without a new image from here on."""
        self.since = None
        self._repeated.clear()
