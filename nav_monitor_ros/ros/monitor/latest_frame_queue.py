"""Queue of the newest frame of each camera, from the executor's thread to the worker's."""

from __future__ import annotations

import math
import threading
import time
from typing import NamedTuple

from sensor_msgs.msg import CompressedImage, Image

# Seconds for which the executor's thread yields when a frame wakes the idle worker. Its next task,
# checking all its entities in Python, is not urgent; without the pause the worker would wait for
# it, because only one of them can hold the interpreter lock until the network computes.
YIELD_TIME = 0.002
YIELD_SHARE = 0.2  # largest share of the executor's time, so that it can serve many cameras


class QueuedFrame(NamedTuple):
    """Received image."""

    message: Image | CompressedImage
    arrived: float  # seconds, steady clock
    stamp_age: float  # seconds by which its stamp is behind the node's clock; below 0: ahead of it
    late: float = 0.0  # seconds by which it arrived later than usual


class FrameSlot:
    """Slot for the newest frame of one camera; an older frame that was not taken is dropped."""

    def __init__(self, queue: LatestFrameQueue) -> None:
        """Create an empty slot.

        Args:
            queue: Queue that contains the slot.
        """
        self._queue = queue
        self._frame: QueuedFrame | None = None
        self.interval = 0.0  # minimum time between two taken frames, seconds
        self.due = -math.inf  # earliest time for taking a frame, seconds on the steady clock
        self.received = 0
        self.dropped = 0

    def put(self, frame: QueuedFrame) -> None:
        """Store the newest frame, and let an idle worker run first."""
        queue = self._queue
        with queue.changed:
            self.received += 1
            replaced = self._frame is not None
            self.dropped += replaced
            self._frame = frame
            if not replaced:  # otherwise the worker knows, and is busy or waits for the slot
                queue.changed.notify()
            woken, queue.idle = queue.idle, False
        if woken:
            queue.yield_to_worker()

    @property
    def waiting(self) -> bool:
        """Whether the slot contains a frame."""
        return self._frame is not None

    def take(self, now: float) -> QueuedFrame | None:
        """Remove and return the frame if it is due; the queue must hold the lock."""
        if self._frame is None or now < self.due:
            return None
        frame, self._frame = self._frame, None
        self.due = now + self.interval
        return frame


class LatestFrameQueue:
    """Queue with one slot per camera; the worker takes all frames that are due together.

    No camera waits for another: a flooding camera replaces the frame in its own slot, and the
    frames of the others are taken in the same turn. A slot with an interval is emptied at most once
    per interval, so that a flood does not use up the worker's time, either.
    """

    def __init__(self, count: int) -> None:
        """Create the queue with ``count`` empty slots."""
        self.changed = threading.Condition()
        self._open = True
        self.idle = False  # whether the worker is waiting and no frame has arrived since
        self._next_yield = -math.inf
        self.slots: tuple[FrameSlot, ...] = tuple(FrameSlot(self) for _ in range(count))

    def take(self) -> list[tuple[int, QueuedFrame]] | None:
        """Wait until a frame is due, and take all frames that are.

        Returns:
            At least one frame, each with the number of its slot; None once the queue is closed.
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
        """Close the queue and end a wait in ``take``."""
        with self.changed:
            self._open = False
            self.changed.notify_all()

    def yield_to_worker(self) -> None:
        """Let a worker that has just been woken run first, but not too often."""
        now = time.monotonic()
        if now >= self._next_yield:
            self._next_yield = now + YIELD_TIME / YIELD_SHARE
            time.sleep(YIELD_TIME)
