"""Drift: whether the camera's images as a whole have moved away from the calibration images."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

SIGNIFICANCE = 1e-4  # probability of a false finding in any one test
MIN_SAMPLES = 60  # p-values that a test needs
SAMPLE_PERIOD = 1.0  # seconds between kept p-values: neighbouring frames are redundant


class Drift:
    """Tests whether the p-values of a long window are systematically too small.

    P-values of in-distribution frames are uniform, or larger. ``D+ = max_u F(u) - u``, with F their
    empirical distribution, exceeds ``sqrt(log(1 / SIGNIFICANCE) / 2 n)`` with probability
    ``SIGNIFICANCE`` at most (one-sided Kolmogorov-Smirnov; Massart, Annals of Probability 18,
    1990). Frames of one scene resemble each other, so n is the effective sample size
    ``n (1 - r) / (1 + r)``, with r the correlation of neighbouring samples (Bayley and Hammersley,
    1946, for a first-order autoregression). A robot that stands still sees a single scene, and
    nothing is reported.
    """

    def __init__(self, window: float) -> None:
        """Start empty.

        Args:
            window: Length of the window in seconds; 0 reports nothing.

        Raises:
            NavMonitorError: The window is too short for a test.
        """
        shortest = MIN_SAMPLES * SAMPLE_PERIOD
        if window and window < shortest:
            raise NavMonitorError(
                f'drift_window is {window:g} s; it must be 0 or at least {shortest:g} s'
            )
        self._window = window
        self._samples: deque[tuple[float, float]] = deque()  # (stream time, p-value)
        self._time = 0.0
        self._finding = ''

    @property
    def finding(self) -> str:
        """Return the finding in one line; empty if there is none."""
        return self._finding

    def update(self, p_value: float, elapsed: float) -> None:
        """Add a frame that is not part of an alarm.

        Args:
            p_value: In (0, 1].
            elapsed: Seconds since the frame before; infinite for the first.
        """
        if not self._window:
            return
        self._time += min(elapsed, self._window)
        if self._samples and self._time - self._samples[-1][0] < SAMPLE_PERIOD:
            return
        self._samples.append((self._time, p_value))
        while self._samples[0][0] < self._time - self._window:
            self._samples.popleft()
        self._finding = self._test()

    def _test(self) -> str:
        count = len(self._samples)
        if count < MIN_SAMPLES:
            return ''
        values = np.array([p for _, p in self._samples])
        ranked = np.sort(values)
        excess = np.arange(1, count + 1) / count - ranked
        place = int(excess.argmax())
        effective = _effective_size(values)
        if excess[place] <= math.sqrt(math.log(1 / SIGNIFICANCE) / (2 * effective)):
            return ''
        return (
            f'{(place + 1) / count:.0%} of the p-values of the last {self._span():.0f} s are at or '
            f'below {ranked[place]:.2g}; calibrate on images of this camera and place'
        )

    def _span(self) -> float:
        return self._samples[-1][0] - self._samples[0][0]


def _effective_size(values: np.ndarray) -> float:
    """Return the effective sample size of a sequence of values, at least 1."""
    centred = values - values.mean()
    variance = float(centred @ centred)
    if variance == 0:
        return 1.0
    r = max(0.0, float(centred[1:] @ centred[:-1]) / variance)
    return max(1.0, len(values) * (1 - r) / (1 + r))
