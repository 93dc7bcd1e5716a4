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

MOST_BYTES = 64_000_000  # largest memory for pixels


@dataclass(frozen=True)
class IncidentRules:
    """Rules for recording incidents."""

    folder: str = ''  # folder for incidents; empty: none are written
    seconds: float = 5.0  # duration before the alert
    limit: float = 200.0  # megabytes in the folder; the oldest incidents are removed first
    rate: float = 5.0  # Hz, rate of kept frames; the one that raises the alert is always kept
    interval: float = 10.0  # minimum seconds between two incidents
    share: float = 1.0  # share of MOST_BYTES, if several cameras keep frames


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """Judged frame."""

    arrived: float  # seconds, steady clock
    stamp_ns: int  # nanoseconds
    frame_id: str
    image: DecodedImage
    verdict: Verdict
    alert: Alert


class IncidentRing:
    """Buffer of the latest frames, bounded in time and in bytes."""

    def __init__(self) -> None:
        """Start empty."""
        self._frames: deque[tuple[RecordedFrame, int]] = deque()  # each with its size in bytes
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Total size of the kept frames in bytes."""
        return self._bytes

    def add(self, frame: RecordedFrame, rules: IncidentRules, *, important: bool = False) -> None:
        """Keep a frame, unless one was kept just before.

        Args:
            frame: Frame; its pixels are copied if they are a view of a larger image.
            rules: Rules that limit what is kept.
            important: Whether to keep the frame in any case.
        """
        last = self._frames[-1][0].arrived if self._frames else -math.inf
        # Slightly early frames are kept, too: a camera's period never matches the rate exactly.
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
        """Remove and return the kept frames, oldest first."""
        frames = [frame for frame, _ in self._frames]
        self._frames.clear()
        self._bytes = 0
        return frames


def held_bytes(array: np.ndarray) -> int:
    """Return the bytes of memory that an array keeps alive, including the array it is a view of."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    while isinstance(owner, memoryview) and owner.obj is not None:
        owner = owner.obj
    if isinstance(owner, np.ndarray):
        return owner.nbytes
    try:
        return max(array.nbytes, memoryview(owner).nbytes)
    except TypeError:  # memory of a library that does not report its size
        return array.nbytes


def _size(frame: RecordedFrame) -> int:
    """Return the bytes that a frame keeps alive, without those that the monitor keeps anyway."""
    why = frame.verdict.explanation
    own = () if why is None else (why.pattern, why.nearest, why.values, why.z)
    return held_bytes(frame.image.pixels) + sum(map(held_bytes, own))
