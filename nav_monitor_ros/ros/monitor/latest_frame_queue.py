"""The newest frame of each camera, handed from the executor's thread to the worker's."""

from __future__ import annotations

import math
import threading
import time
from typing import NamedTuple

from sensor_msgs.msg import CompressedImage, Image

# Seconds for which the executor's thread yields when a frame wakes the idle worker. What it does
# next, looking at all its entities in Python, can wait; else the worker would wait for it, since
# only one of them runs at a time until the network computes.
YIELD_TIME = 0.002
YIELD_SHARE = 0.2  # of the executor's time at most, so that the images of many cameras get through


class QueuedFrame(NamedTuple):
    """An image as it came in."""

    message: Image | CompressedImage
    arrived: float  # seconds, steady clock
    stamp_age: float  # seconds by which its stamp is behind the node's clock; below 0: ahead of it


class FrameSlot:
    """Keeps the newest frame of one camera; an older one that was not taken is dropped."""

    def __init__(self, queue: LatestFrameQueue) -> None:
        """Start empty.

        Args:
            queue: The one that the slot belongs to.
        """
        self._queue = queue
        self._frame: QueuedFrame | None = None
        self.interval = 0.0  # minimum seconds between two frames that are taken
        self.due = -math.inf  # steady seconds before which no frame is taken
        self.received = 0
        self.dropped = 0

    def put(self, frame: QueuedFrame) -> None:
        """Put the newest frame in, and let an idle worker run first."""
        queue = self._queue
        with queue.changed:
            self.received += 1
            replaced = self._frame is not None
            self.dropped += replaced
            self._frame = frame
            if not replaced:  # else the worker knows, and is busy or waits for the slot to be due
                queue.changed.notify()
            woken, queue.idle = queue.idle, False
        if woken:
            queue.yield_to_worker()

    @property
    def waiting(self) -> bool:
        """Return whether a frame is in it."""
        return self._frame is not None

    def take(self, now: float) -> QueuedFrame | None:
        """Return the frame if it is due, and leave the slot empty; the queue holds the lock."""
        if self._frame is None or now < self.due:
            return None
        frame, self._frame = self._frame, None
        self.due = now + self.interval
        return frame


class LatestFrameQueue:
    """One slot for each camera; the worker takes all frames that are due at once.

    No camera waits behind another: one that floods replaces the frame in its own slot, and the
    others' frames are taken in the same turn. A slot with an interval is emptied no more often than
    that, so that a flood does not use up the worker's time either.
    """

    def __init__(self, count: int) -> None:
        """Open with so many empty slots."""
        self.changed = threading.Condition()
        self._open = True
        self.idle = False  # whether the worker waits, and no frame has come since
        self._next_yield = -math.inf
        self.slots: tuple[FrameSlot, ...] = tuple(FrameSlot(self) for _ in range(count))

    def take(self) -> list[tuple[int, QueuedFrame]] | None:
        """Wait until a frame is due; return all that are, each with the number of its slot.

        Returns:
            At least one; None once the queue is closed.
        """
        with self.changed:
            while self._open:
                now = time.monotonic()
                due = min((slot.due for slot in self.slots if slot.waiting), default=None)
                if due is not None and due <= now:
                    taken = [(number, slot.take(now)) for number, slot in enumerate(self.slots)]
                    return [(number, frame) for number, frame in taken if frame is not None]
                self.idle = due is None
                self.changed.wait(None if due is None else due - now)
                self.idle = False
            return None

    def close(self) -> None:
        """End the wait of whoever takes frames."""
        with self.changed:
            self._open = False
            self.changed.notify_all()

    def yield_to_worker(self) -> None:
        """Let a worker that was just woken run first, but not too often."""
        now = time.monotonic()
        if now >= self._next_yield:
            self._next_yield = now + YIELD_TIME / YIELD_SHARE
            time.sleep(YIELD_TIME)
