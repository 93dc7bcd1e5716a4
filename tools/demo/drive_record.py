"""What was recorded of a drive of the simulated robot."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

STANDSTILL = 0.01  # m/s
OOD = 'ood'


@dataclass(frozen=True)
class Sight:
    """The monitor's verdict on one camera image, and where the robot was."""

    time: float  # s since the first image
    stamp_ns: int
    class_name: str
    p_value: float
    flagged: bool
    alert: bool
    reason: str
    x: float  # m
    y: float  # m
    speed: float  # m/s, as commanded by the gate
    gap: float  # m to the unknown object


@dataclass
class DriveRecord:
    """Everything that the page shows."""

    images: dict[int, np.ndarray] = field(default_factory=dict)  # stamp -> uint8 (h, w, 3) RGB
    overlays: dict[int, np.ndarray] = field(default_factory=dict)  # likewise, as the monitor drew
    sights: list[Sight] = field(default_factory=list)
    p_threshold: float = 0.0
    reason: str = ''
    touched: bool = False
    # The newest values.
    x: float = 0.0
    y: float = 0.0
    gap: float = math.inf
    speed: float = 0.0

    @property
    def first_alert(self) -> Sight | None:
        """Return the first image of the alert that ended the drive; None if there was none."""
        ending: Sight | None = None
        for sight in reversed(self.sights):
            if not (sight.alert and sight.reason == OOD):
                break
            ending = sight
        return ending

    @property
    def false_stops(self) -> int:
        """Return how many alerts of unusual images there were before the last one."""
        last, count, before = self.first_alert, 0, False
        for sight in self.sights:
            if sight is last:
                break
            now = sight.alert and sight.reason == OOD
            count += now and not before
            before = now
        return count

    def nearest_overlay(self, stamp_ns: int) -> tuple[int, np.ndarray] | None:
        """Return the stamp and the picture of the overlay that is nearest in time."""
        if not self.overlays:
            return None
        nearest = min(self.overlays, key=lambda stamp: abs(stamp - stamp_ns))
        return nearest, self.overlays[nearest]
