"""Whether one camera is heard, or two at once."""

from __future__ import annotations

from collections.abc import Hashable

TOGETHER = 1.0  # seconds within which a camera that comes back was never gone


class CameraWatch:
    """Notices two cameras on one topic, whose images come in turn.

    Evidence, the check for frozen images and the last stamp all belong to one camera. Publishers
    cannot just be counted: one that was killed stays in the graph for many seconds, so that a
    camera that was restarted would count twice.
    """

    def __init__(self) -> None:
        """Start without a camera."""
        self._last: Hashable = None
        self._seen: dict[Hashable, float] = {}
        self._mixed_at: float | None = None

    def image_from(self, camera: Hashable, now: float) -> bool:
        """Take in from whom an image came.

        Args:
            camera: Equal for images of one publisher.
            now: Seconds.

        Returns:
            Whether two cameras are speaking: one came back after another within the last second.
        """
        before = self._seen.get(camera)
        if camera != self._last and before is not None and now - before <= TOGETHER:
            self._mixed_at = now
        self._last = camera
        self._seen[camera] = now
        for other in [key for key, time in self._seen.items() if now - time > TOGETHER]:
            del self._seen[other]
        return self._mixed_at is not None and now - self._mixed_at <= TOGETHER
