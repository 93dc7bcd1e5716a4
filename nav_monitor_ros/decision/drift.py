"""Whether the camera's world as a whole has moved away from the calibration images."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

DOUBT = 1e-4  # probability with which a world that has not moved is called so, at any one test
LEAST = 60  # looks before anything is said
LOOK_PERIOD = 1.0  # seconds between the looks that are kept: neighbouring frames say the same


class Drift:
    """Tests the p-values of a long window for being too small as a whole.

    P-values of in-distribution frames are uniform, or larger. ``D+ = max_u F(u) - u``, with F their
    empirical distribution, passes ``sqrt(log(1 / doubt) / 2 n)`` with probability ``doubt`` at most
    (one-sided Kolmogorov-Smirnov; Massart, Annals of Probability 18, 1990). Frames of one scene
    resemble each other, so n is what the looks are worth as independent ones,
    ``n (1 - r) / (1 + r)``, with r their correlation with the look before (Bayley and Hammersley,
    1946, for a first-order autoregression). A robot that stands still has seen one scene only, and
    nothing is said.
    """

    def __init__(self, window: float) -> None:
        """Start empty.

        Args:
            window: Seconds that are looked back on; 0 never says anything.

        Raises:
            NavMonitorError: The window is too short for a test.
        """
        if window and window < LEAST * LOOK_PERIOD:
            raise NavMonitorError(
                f'drift_window is {window:g} s; it must be 0 or at least {LEAST * LOOK_PERIOD:g} s'
            )
        self._window = window
        self._looks: deque[tuple[float, float]] = deque()  # (stream time, p-value)
        self._time = 0.0
        self._finding = ''

    @property
    def finding(self) -> str:
        """Return in one line what has moved, or nothing."""
        return self._finding

    def update(self, p_value: float, elapsed: float) -> None:
        """Take in a frame that is not part of an alarm.

        Args:
            p_value: In (0, 1].
            elapsed: Seconds since the frame before; infinite for the first.
        """
        if not self._window:
            return
        self._time += min(elapsed, self._window)
        if self._looks and self._time - self._looks[-1][0] < LOOK_PERIOD:
            return
        self._looks.append((self._time, p_value))
        while self._looks[0][0] < self._time - self._window:
            self._looks.popleft()
        self._finding = self._test()

    def _test(self) -> str:
        count = len(self._looks)
        if count < LEAST:
            return ''
        values = np.array([p for _, p in self._looks])
        ranked = np.sort(values)
        excess = np.arange(1, count + 1) / count - ranked
        place = int(excess.argmax())
        worth = _independent(values)
        if excess[place] <= math.sqrt(math.log(1 / DOUBT) / (2 * worth)):
            return ''
        return (
            f'{(place + 1) / count:.0%} of the p-values of the last {self._span():.0f} s are at or '
            f'below {ranked[place]:.2g}; calibrate on images of this camera and place'
        )

    def _span(self) -> float:
        return self._looks[-1][0] - self._looks[0][0]


def _independent(values: np.ndarray) -> float:
    """Return how many independent values these are worth, at least 1."""
    centred = values - values.mean()
    variance = float(centred @ centred)
    if variance == 0:
        return 1.0
    r = max(0.0, float(centred[1:] @ centred[:-1]) / variance)
    return max(1.0, len(values) * (1 - r) / (1 + r))
