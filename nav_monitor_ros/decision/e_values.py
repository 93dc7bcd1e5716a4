"""From p-values to e-values: what one frame is worth as evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

KEPT = 0.5  # e-value of a frame that is not strange; the rest is bet on strange ones
STRANGE = 0.001  # p-value at or below which a frame counts as strange, where p-values go so far


class EValues:
    """An e-value for each p-value: ``KEPT + (1 - KEPT) / rate`` if p is strange, else ``KEPT``.

    ``rate`` bounds, with the stated confidence over the calibration images, how often an
    in-distribution frame is strange; so the e-value of such frames is at most 1 on average.

    The usual calibrators (``k p^(k - 1)``) also give moderately small p-values some weight. On
    a camera they must not have any: an object that is in view for a minute keeps its p-value, and
    whatever is above 1 at that p-value adds up to an alarm (docs/safety.md has the figures).
    Source: Shafer, Testing by betting, JRSS A 184, 2021 (all-or-nothing bets).
    """

    def __init__(
        self, sizes: Sequence[int], independent: Sequence[int], limits: np.ndarray,
        confidence: float, strange: float = STRANGE,
    ) -> None:
        """Choose what is strange in each class.

        Args:
            sizes: Calibration images that each of C classes is ranked among.
            independent: How many independent images these are worth.
            limits: float64 (C,): what is strange must not be above.
            confidence: With which the rate is bounded, in (0, 1).
            strange: P-value at or below which a frame is strange; raised to ``1 / (m + 1)`` where
                a class is worth m independent images: of rarer frames they cannot tell how rare.

        Raises:
            NavMonitorError: ``strange`` is not in (0, 1).
        """
        if not 0 < strange < 1:
            raise NavMonitorError(f'evidence_level is {strange:g}; it must lie between 0 and 1')
        # Imported here: only a start needs it, and the command line shall not wait for it.
        from scipy.special import betaincinv

        n, worth = np.asarray(sizes, np.float64), np.asarray(independent, np.float64)
        wanted = np.minimum(limits, np.maximum(strange, 1 / (worth + 1)))
        # In units of 1 / (n + 1), the p-value of what scores above all calibration images.
        ranks = np.floor(wanted * (n + 1) + 1e-9).clip(1)
        self.levels = ranks / (n + 1)  # float64 (C,)
        # Clopper and Pearson's upper bound, where ranks - 1 calibration images score as high.
        seen = (ranks - 1) * worth / n
        self.rates = betaincinv(seen + 1, np.maximum(worth - seen, 1e-9), confidence)  # (C,)
        self._strange = KEPT + (1 - KEPT) / self.rates

    def e_value(self, p_value: float, label: int) -> float:
        """Return the e-value of a frame predicted as class ``label``."""
        return float(self._strange[label]) if p_value <= self.levels[label] else KEPT

    def e_values(self, p_values: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the e-value of each frame, float64 (N,)."""
        return np.where(p_values <= self.levels[labels], self._strange[labels], KEPT)
