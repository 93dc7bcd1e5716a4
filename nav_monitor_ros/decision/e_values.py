"""E-values: the evidence of single frames, from their p-values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

NO_EVIDENCE = 0.5  # e-value of a frame without evidence; the rest of the stake is on the others
DEFAULT_EVIDENCE_LEVEL = 0.001  # p-value at or below which a frame is evidence, if p can be so low


class EValues:
    """An e-value for each p-value: ``E + (1 - E) / rate`` if p is at most a level, else ``E``.

    E is ``NO_EVIDENCE``. ``rate`` bounds, with the stated confidence over the calibration images,
    how often an in-distribution frame has a p-value at or below the level; so the e-value of such
    frames is at most 1 on average.

    The usual calibrators (``k p^(k - 1)``) also give moderately small p-values some weight. On
    a camera they must not have any: an object that is in view for a minute keeps its p-value, and
    whatever is above 1 at that p-value adds up to an alarm (docs/safety.md has the figures).
    Source: Shafer, Testing by betting, JRSS A 184, 2021 (all-or-nothing bets).
    """

    def __init__(
        self, sizes: Sequence[int], effective: Sequence[int], limits: np.ndarray,
        confidence: float, level: float = DEFAULT_EVIDENCE_LEVEL,
    ) -> None:
        """Choose the level of each class.

        Args:
            sizes: Calibration images that each of C classes is ranked among.
            effective: The effective sample size of these.
            limits: float64 (C,): the largest level of each class.
            confidence: With which the rate is bounded, in (0, 1).
            level: P-value at or below which a frame is evidence; raised to ``1 / (m + 1)`` where
                the effective sample size of a class is m: it cannot bound the rate of rarer frames.

        Raises:
            NavMonitorError: ``level`` is not in (0, 1).
        """
        if not 0 < level < 1:
            raise NavMonitorError(f'evidence_level is {level:g}; it must lie between 0 and 1')
        # Imported here, so that the command line starts faster.
        from scipy.special import betaincinv

        n, m = np.asarray(sizes, np.float64), np.asarray(effective, np.float64)
        wanted = np.minimum(limits, np.maximum(level, 1 / (m + 1)))
        # In units of 1 / (n + 1), the p-value of what scores above all calibration images.
        ranks = np.floor(wanted * (n + 1) + 1e-9).clip(1)
        self.levels = ranks / (n + 1)  # float64 (C,)
        # Clopper and Pearson's upper bound, where ranks - 1 calibration images score as high.
        seen = (ranks - 1) * m / n
        self.rates = betaincinv(seen + 1, np.maximum(m - seen, 1e-9), confidence)  # (C,)
        self._evidence = NO_EVIDENCE + (1 - NO_EVIDENCE) / self.rates

    def e_value(self, p_value: float, label: int) -> float:
        """Return the e-value of a frame predicted as class ``label``."""
        return float(self._evidence[label]) if p_value <= self.levels[label] else NO_EVIDENCE

    def e_values(self, p_values: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the e-value of each frame, float64 (N,)."""
        return np.where(p_values <= self.levels[labels], self._evidence[labels], NO_EVIDENCE)
