"""A mailbox of one slot between the camera and whoever works on its images."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from sensor_msgs.msg import CompressedImage, Image

T = TypeVar('T')


class Delivery(NamedTuple):
    """An image as it came in."""

    message: Image | CompressedImage
    age: float  # seconds by which its stamp is behind the node's clock; below 0: ahead of it


@dataclass(frozen=True)
class Parcel(Generic[T]):
    """What was put in, and when."""

    content: T
    arrived: float  # seconds, steady clock


class Mailbox(Generic[T]):
    """Keeps the newest thing only; whoever is late finds the older ones gone and counted."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._changed = threading.Condition()
        self._parcel: Parcel[T] | None = None
        self._open = True
        self.received = 0
        self.dropped = 0

    def put(self, content: T, now: float) -> None:
        """Leave the newest thing; it takes the place of one that nobody fetched."""
        with self._changed:
            self.received += 1
            self.dropped += self._parcel is not None
            self._parcel = Parcel(content, now)
            self._changed.notify()

    def take(self) -> Parcel[T] | None:
        """Wait for the newest thing; return None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._parcel is not None or not self._open)
            parcel, self._parcel = self._parcel, None
            return parcel if self._open else None

    def close(self) -> None:
        """Wake and dismiss whoever waits."""
        with self._changed:
            self._open = False
            self._parcel = None
            self._changed.notify_all()
