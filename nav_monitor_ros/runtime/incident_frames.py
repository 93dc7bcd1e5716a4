"""The last judged frames of a camera, kept in memory for an incident."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.perception.decoded_image import DecodedImage

MOST_BYTES = 64_000_000  # of pixels that wait in memory


@dataclass(frozen=True)
class IncidentRules:
    """What is kept, and where."""

    folder: str = ''  # where incidents are written; empty: none are
    seconds: float = 5.0  # before the alert
    limit: float = 200.0  # megabytes in the folder, the oldest incidents go first
    rate: float = 5.0  # Hz, frames kept; the one that raises the alert always is
    interval: float = 10.0  # seconds between two incidents
    share: float = 1.0  # of MOST_BYTES, where several cameras keep frames


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One frame as it was judged."""

    arrived: float  # seconds, steady clock
    stamp_ns: int  # nanoseconds
    frame_id: str
    image: DecodedImage
    verdict: Verdict
    alert: Alert


class IncidentRing:
    """The last seconds in memory, bounded in time and in bytes."""

    def __init__(self) -> None:
        """Start empty."""
        self._frames: deque[tuple[RecordedFrame, int]] = deque()  # with the bytes that each keeps
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes that are kept."""
        return self._bytes

    def add(self, frame: RecordedFrame, rules: IncidentRules, *, important: bool = False) -> None:
        """Keep a frame, unless one was kept just before.

        Args:
            frame: The frame; its pixels are copied where they are part of a larger image.
            rules: How much is kept.
            important: Keep it anyway.
        """
        last = self._frames[-1][0].arrived if self._frames else -math.inf
        # A little early is on time: a camera's period is never exactly that of the rate.
        if not important and frame.arrived - last < 0.9 / rules.rate:
            return
        pixels = frame.image.pixels
        if held_bytes(pixels) > pixels.nbytes:
            frame = replace(frame, image=replace(frame.image, pixels=pixels.copy()))
        size = _size(frame)
        self._frames.append((frame, size))
        self._bytes += size
        oldest = frame.arrived - rules.seconds
        while len(self._frames) > 1 and (
            self._frames[0][0].arrived < oldest or self._bytes > MOST_BYTES * rules.share
        ):
            self._bytes -= self._frames.popleft()[1]

    def take(self) -> list[RecordedFrame]:
        """Return what is kept, oldest first, and begin anew."""
        frames = [frame for frame, _ in self._frames]
        self._frames.clear()
        self._bytes = 0
        return frames


def held_bytes(array: np.ndarray) -> int:
    """Return how much memory an array keeps from being given back: all of what it is a view of."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    while isinstance(owner, memoryview) and owner.obj is not None:
        owner = owner.obj
    if isinstance(owner, np.ndarray):
        return owner.nbytes
    try:
        return max(array.nbytes, memoryview(owner).nbytes)
    except TypeError:  # memory of a library that does not say how much it is
        return array.nbytes


def _size(frame: RecordedFrame) -> int:
    """Return the bytes that a frame keeps; what the monitor has anyway does not count."""
    told = frame.verdict.explanation
    own = () if told is None else (told.pattern, told.nearest, told.values, told.z)
    return held_bytes(frame.image.pixels) + sum(map(held_bytes, own))
