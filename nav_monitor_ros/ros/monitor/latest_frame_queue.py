"""Mailboxes of one slot between the cameras and whoever works on their images."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from sensor_msgs.msg import CompressedImage, Image

T = TypeVar('T')
# Seconds for which the executor's thread steps aside when an image wakes the idle worker. What it
# does next, looking at all its entities in Python, can wait; else the worker has to wait for it,
# since one of them runs at a time, until the network computes.
ASIDE = 0.002
ASIDE_SHARE = 0.2  # of the executor's time at most, so that the images of many cameras get through


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

    def __init__(self, room: Mailroom[T]) -> None:
        """Start empty.

        Args:
            room: The one that the mailbox belongs to.
        """
        self._room = room
        self._parcel: Parcel[T] | None = None
        self.interval = 0.0  # seconds that have to pass between two takings
        self.due = -math.inf  # steady seconds before which nothing is taken
        self.received = 0
        self.dropped = 0

    def put(self, content: T, now: float) -> bool:
        """Leave the newest thing; it takes the place of one that was not taken.

        Args:
            content: The thing.
            now: When it came, seconds on the steady clock.

        Returns:
            Whether that wakes an idle reader.
        """
        room = self._room
        with room.changed:
            self.received += 1
            waited = self._parcel is not None
            self.dropped += waited
            self._parcel = Parcel(content, now)
            if not waited:  # else the reader knows, and is busy or waits for the box to be due
                room.changed.notify()
            woken, room.idle = room.idle, False
            return woken

    @property
    def waiting(self) -> bool:
        """Return whether something is in it."""
        return self._parcel is not None

    def empty(self, now: float) -> Parcel[T] | None:
        """Return what is in it if it is due, and leave nothing; the room holds the lock."""
        if self._parcel is None or now < self.due:
            return None
        parcel, self._parcel = self._parcel, None
        self.due = now + self.interval
        return parcel


class Mailroom(Generic[T]):
    """The mailboxes that one reader empties all at once.

    Nobody's mail waits behind another's: a sender that floods its box fills one slot of it, and
    what the others left is taken with the same grip. A box with an interval is emptied no more
    often than that, so that a flood does not use up the reader's time either.
    """

    def __init__(self, count: int) -> None:
        """Open with so many empty mailboxes."""
        self.changed = threading.Condition()
        self._open = True
        self.idle = False  # whether the reader waits, and nothing has come since
        self._next_aside = -math.inf
        self.boxes: tuple[Mailbox[T], ...] = tuple(Mailbox(self) for _ in range(count))

    def take(self) -> list[tuple[int, Parcel[T]]] | None:
        """Wait until something is due; return all that is, each with the number of its box.

        Returns:
            At least one; None once the room is closed.
        """
        with self.changed:
            while self._open:
                now = time.monotonic()
                due = min((box.due for box in self.boxes if box.waiting), default=None)
                if due is not None and due <= now:
                    taken = [(number, box.empty(now)) for number, box in enumerate(self.boxes)]
                    return [(number, parcel) for number, parcel in taken if parcel]
                self.idle = due is None
                self.changed.wait(None if due is None else due - now)
                self.idle = False
            return None

    def close(self) -> None:
        """Wake and dismiss whoever waits."""
        with self.changed:
            self._open = False
            self.changed.notify_all()

    def step_aside(self) -> None:
        """Let a reader that was just woken run first, but not too often; for the one who puts."""
        now = time.monotonic()
        if now >= self._next_aside:
            self._next_aside = now + ASIDE / ASIDE_SHARE
            time.sleep(ASIDE)
