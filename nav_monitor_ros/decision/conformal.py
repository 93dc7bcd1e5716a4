"""Conformal p-values, and thresholds that keep a false-alarm budget with stated confidence."""

from __future__ import annotations

import math

import numpy as np

from nav_monitor_ros.errors import NavMonitorError


class Conformal:
    """The scores of n held-out in-distribution images, against which a frame is ranked.

    ``p(s) = (1 + #{calibration scores >= s}) / (n + 1)``. A tie counts against the frame being
    unusual, so p stays valid for scores with many ties (Hamming distances). For a frame
    exchangeable with the calibration images, ``P(p <= u) <= u``.
    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005.
    """

    def __init__(self, scores: np.ndarray) -> None:
        """Take the calibration scores, float (n,), in any order.

        Raises:
            NavMonitorError: There are none, or one is not a number.
        """
        self.scores = np.sort(np.asarray(scores, np.float64))
        if not len(self.scores):
            raise NavMonitorError('calibration needs images; give a calibration source')
        if np.isnan(self.scores).any():
            raise NavMonitorError('a calibration score is not a number; check the network')

    def __len__(self) -> int:
        """Return n."""
        return len(self.scores)

    def p_value(self, score: float) -> float:
        """Return the p-value of one score, in [1 / (n + 1), 1]."""
        below = int(self.scores.searchsorted(score, 'left'))
        return (1 + len(self.scores) - below) / (len(self.scores) + 1)

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return the p-value of each score, float64 (N,)."""
        below = np.searchsorted(self.scores, scores, 'left')
        return (1 + len(self.scores) - below) / (len(self.scores) + 1)


def p_threshold(n: int, alpha: float, confidence: float) -> float:
    """Return the largest p-value that may count as out-of-distribution.

    With probability ``confidence`` over the draw of the n calibration images, at most a share
    ``alpha`` of in-distribution frames has a p-value at or below it. Flagged is what fewer than
    k + 1 calibration scores reach, where k is the largest count with
    ``BinomialCDF(k; n, alpha) <= 1 - confidence`` (exact, for any score).
    Source: Vovk, Conditional validity of inductive conformal predictors, ACML 2012.

    Args:
        n: Number of calibration images.
        alpha: Largest share of false alarms among in-distribution frames, in (0, 1).
        confidence: In (0, 1).

    Returns:
        ``(k + 1) / (n + 1)``.

    Raises:
        NavMonitorError: n is too small for this budget; the message says how many are needed.
    """
    if not (0 < alpha < 1 and 0 < confidence < 1):
        raise NavMonitorError(
            f'the false-alarm budget ({alpha}) and its confidence ({confidence}) must lie '
            'between 0 and 1'
        )
    needed = images_needed(alpha, confidence)
    if n < needed:
        raise NavMonitorError(
            f'{n} calibration images are too few for a false-alarm rate of {alpha:g} at '
            f'{confidence:.0%} confidence: {needed} are needed; give more images or a larger rate'
        )
    # Imported here: scipy.stats takes half a second, and only fitting needs it.
    from scipy.stats import binom

    k = int(binom.ppf(1 - confidence, n, alpha))  # smallest k with CDF(k) >= 1 - confidence
    while k >= 0 and binom.cdf(k, n, alpha) > 1 - confidence:
        k -= 1
    return (k + 1) / (n + 1)


def images_needed(alpha: float, confidence: float) -> int:
    """Return the smallest calibration set that can keep the budget: (1 - alpha)^n <= 1 - conf."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - alpha))
