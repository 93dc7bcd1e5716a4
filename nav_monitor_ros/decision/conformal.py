"""Conformal p-values, and thresholds that keep a false-alarm budget with stated confidence."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

TAIL = 0.05  # share of the calibration scores whose excess gives the tail's form


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
            NavMonitorError: There are none, or one is not a finite number.
        """
        self.scores = np.sort(np.asarray(scores, np.float64))
        if not len(self.scores):
            raise NavMonitorError('calibration needs images; give a calibration source')
        if not np.isfinite(self.scores).all():
            # Infinite ones would rank every frame as usual.
            raise NavMonitorError('a calibration score is not a finite number; check the network')
        # The same for single scores: numpy's search takes several times longer to get going.
        self._sorted = array('d', self.scores)
        n = len(self.scores)
        self._tail_start = float(self.scores[min(n - 1, math.floor(n * (1 - TAIL)))])
        excess = self.scores[self.scores > self._tail_start] - self._tail_start
        self._tail_scale, self._tail_shape = _generalised_pareto(excess)
        self._tail_surprise = -math.log(self.p_value(float(np.nextafter(self._tail_start, np.inf))))

    def __len__(self) -> int:
        """Return n."""
        return len(self.scores)

    def p_value(self, score: float) -> float:
        """Return the p-value of one score, in [1 / (n + 1), 1]."""
        n = len(self._sorted)
        return (1 + n - bisect_left(self._sorted, score)) / (n + 1)

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return the p-value of each score, float64 (N,)."""
        below = np.searchsorted(self.scores, scores, 'left')
        return (1 + len(self.scores) - below) / (len(self.scores) + 1)

    def surprise(self, score: float) -> float:
        """Return what ``surprises`` gives for one score, fast enough for every frame."""
        excess = (score - self._tail_start) / self._tail_scale
        if not excess > 0:
            return -math.log(self.p_value(score))
        shape = self._tail_shape
        growth = math.log1p(shape * excess) / shape if shape else excess
        return self._tail_surprise + growth

    def surprises(self, scores: np.ndarray) -> np.ndarray:
        """Return -log p of each score, with a tail beyond the calibration scores, float64 (N,).

        A p-value cannot fall below 1 / (n + 1), so by p-values alone a score just above all of the
        calibration scores and one a hundred times larger are the same. Above the upper ``TAIL`` of
        the calibration scores, -log p goes on as for a generalised Pareto distribution of the same
        mean and variance of the excess (peaks over threshold; Pickands, 1975). These are not valid
        p-values: what is made of them has to be calibrated again.
        """
        excess = (np.asarray(scores, np.float64) - self._tail_start) / self._tail_scale
        shape = self._tail_shape
        beyond = np.maximum(excess, 0.0)
        growth = np.log1p(shape * beyond) / shape if shape else beyond
        return np.where(excess > 0, self._tail_surprise + growth, -np.log(self.p_values(scores)))


def _generalised_pareto(excess: np.ndarray) -> tuple[float, float]:
    """Return scale and shape by the method of moments (Hosking and Wallis, 1987).

    The shape is kept within [0, 0.5): tails that end, as a negative shape has them, would call
    every score beyond their end infinitely unusual.
    """
    if not len(excess):
        return 1.0, 0.0  # no scale to be had: a score counts by its own unit
    mean, variance = float(excess.mean()), float(excess.var())
    if not variance > mean * mean:
        return mean, 0.0
    ratio = mean * mean / variance if math.isfinite(variance) else 0.0
    return mean * (1 + ratio) / 2, (1 - ratio) / 2


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
    check_budget(alpha, confidence)
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
    return (max(k, 0) + 1) / (n + 1)  # with n images enough k is at least 0 but for rounding


def independent_images(scores: np.ndarray, groups: np.ndarray) -> int:
    """Return how many independent images n calibration images in groups are worth.

    Frames of one track resemble each other: where one scores high, its neighbours do. The bound of
    ``p_threshold`` counts independent images, so n is divided by the design effect, the variance of
    the share of high scores over the variance that independent images would have. High is the
    upper ``TAIL``: further up there are too few groups to tell.
    Source: Kish, Survey Sampling, 1965; Rao and Scott, Biometrics 48, 1992.

    Args:
        scores: float (n,).
        groups: (n,), equal values for images that belong together.

    Returns:
        At most n; n where no group holds two images.
    """
    n = len(scores)
    limit = np.quantile(scores, 1 - TAIL)
    high = scores >= limit
    if high.all():  # tied at the lowest score
        high = scores > limit
    _, places = np.unique(groups, return_inverse=True)
    sizes, highs = np.bincount(places), np.bincount(places, high)
    rate, count = high.mean(), len(sizes)
    if count == n:
        return n
    if count == 1 or rate == 0:
        return count
    variance = np.square(highs - rate * sizes).sum() / n**2 * count / (count - 1)
    return min(n, math.floor(n / max(1.0, variance * n / (rate * (1 - rate)))))


def check_budget(alpha: float, confidence: float) -> None:
    """Check that both lie between 0 and 1.

    Raises:
        NavMonitorError: One of them does not.
    """
    if not (0 < alpha < 1 and 0 < confidence < 1):
        raise NavMonitorError(
            f'the false-alarm budget ({alpha}) and its confidence ({confidence}) must lie '
            'between 0 and 1'
        )


def images_needed(alpha: float, confidence: float) -> int:
    """Return the smallest calibration set that can keep the budget: (1 - alpha)^n <= 1 - conf."""
    n = math.ceil(math.log1p(-confidence) / math.log1p(-alpha))
    # By the very count that p_threshold makes, against rounding.
    while n * math.log1p(-alpha) > math.log1p(-confidence):
        n += 1
    return n
