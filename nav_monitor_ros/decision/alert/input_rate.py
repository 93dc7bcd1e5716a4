"""Rate at which a camera's images arrive, and whether it is too low."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 2.0  # seconds over which the rate is measured, and for which it must suffice again
LEAST_PERIODS = 5  # smallest number of the camera's periods in a measurement
MOST_ARRIVALS = 5000  # largest number of arrivals kept: at higher rates, the window is shorter


class InputRate:
    """Measures the rate of arriving images and compares it with two thresholds.

    The rate is the number of periods per second among the newest images that span at least
    ``WINDOW`` and ``LEAST_PERIODS`` periods. It changes only when an image arrives, so that the
    same arrivals always give the same result; silence is another fault. Until enough images have
    arrived, and again after a pause, the rate is unknown. A rate that was too low counts as too
    low until all measurements of one ``WINDOW`` have sufficed.
    """

    def __init__(self) -> None:
        """Start without an image."""
        self.rate: float | None = None  # images per second; None while it is unknown
        self._arrivals: deque[float] = deque(maxlen=MOST_ARRIVALS)
        self._warn, self._error = _Threshold('input_rate_warn'), _Threshold('input_rate_error')

    def image_arrived(
        self, arrived: float, longest_period: float, *, warn: float, error: float
    ) -> None:
        """Measure again with a further image.

        Args:
            arrived: Arrival time, seconds.
            longest_period: Time between two images beyond which the camera has paused, seconds.
            warn: Rate below which ``warning`` tells so, Hz; 0: never.
            error: Rate below which ``fault`` tells so, Hz; 0: never.
        """
        arrivals = self._arrivals
        if arrivals:
            arrived = max(arrived, arrivals[-1])
            if arrived - arrivals[-1] > longest_period:
                arrivals.clear()
        arrivals.append(arrived)
        while len(arrivals) > LEAST_PERIODS + 1 and arrived - arrivals[1] >= WINDOW:
            arrivals.popleft()
        periods, span = len(arrivals) - 1, arrived - arrivals[0]
        enough = periods >= LEAST_PERIODS and span >= WINDOW or len(arrivals) == MOST_ARRIVALS
        self.rate = periods / span if enough and span > 0 else None
        for threshold, least in ((self._warn, warn), (self._error, error)):
            threshold.update(self.rate, least, arrived)

    @property
    def warning(self) -> str:
        """Return in one line that the rate is below ``warn``; '' if it is not."""
        return self._warn.finding

    @property
    def fault(self) -> str:
        """Return in one line that the rate is below ``error``; '' if it is not."""
        return self._error.finding


class _Threshold:
    """Threshold of the rate, with hysteresis in time."""

    def __init__(self, parameter: str) -> None:
        self.finding = ''
        self._parameter = parameter
        self._last_low = -math.inf  # time of the last measurement below the threshold

    def update(self, rate: float | None, least: float, now: float) -> None:
        if not least:
            self.finding = ''
        elif rate is not None and rate < least:
            self._last_low = now
            self.finding = (
                f'{rate:.1f} images per second, fewer than {self._parameter} ({least:g} Hz)'
            )
        elif rate is not None and now - self._last_low >= WINDOW:
            self.finding = ''
