"""Conformal p-values: the score of a frame ranked among calibration scores."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

TAIL = 0.05  # share of the calibration scores, the largest ones, to which the tail is fitted


class ConformalPValues:
    """P-values of frames, ranked among the scores of n held-out in-distribution images.

    ``p(s) = (1 + #{calibration scores >= s}) / (n + 1)``. Ties make a frame less unusual, so p is
    valid for scores with many ties (Hamming distances): ``P(p <= u) <= u`` for a frame that is
    exchangeable with the calibration images.
    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005.
    """

    def __init__(self, scores: np.ndarray) -> None:
        """Sort the calibration scores and fit their tail.

        Args:
            scores: float (n,), in any order.

        Raises:
            NavMonitorError: n is 0, or a score is not a finite number.
        """
        self.scores = np.sort(np.asarray(scores, np.float64))
        if not len(self.scores):
            raise NavMonitorError('calibration needs images; give a calibration source')
        if not np.isfinite(self.scores).all():
            # With infinite scores, no frame would be unusual.
            raise NavMonitorError('a calibration score is not a finite number; check the network')
        # For single scores bisect is several times faster than numpy's search.
        self._sorted = array('d', self.scores)
        n = len(self.scores)
        self._tail_start = float(self.scores[min(n - 1, math.floor(n * (1 - TAIL)))])
        excess = self.scores[self.scores > self._tail_start] - self._tail_start
        self._tail_scale, self._tail_shape = _generalised_pareto(excess)
        distinct = np.unique(self.scores)
        self._distinct = array('d', distinct)
        self._neg_log_p = array('d', -np.log(self.p_values(distinct)))
        self._tail_neg_log_p = -math.log(self.p_value(self._tail_start))

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

    def neg_log_p_value(self, score: float) -> float:
        """Return ``neg_log_p_values`` of one score, fast enough for every frame."""
        excess = (score - self._tail_start) / self._tail_scale
        if not excess > 0:
            place = bisect_right(self._distinct, score)
            if place == 0:
                return 0.0
            low, value = self._distinct[place - 1], self._neg_log_p[place - 1]
            if score == low:
                return value
            share = (score - low) / (self._distinct[place] - low)
            return value + share * (self._neg_log_p[place] - value)
        shape = self._tail_shape
        growth = math.log1p(shape * excess) / shape if shape else excess
        return self._tail_neg_log_p + growth

    def neg_log_p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return -log p of each score, continuous and without an upper limit, float64 (N,).

        Between two calibration scores -log p is interpolated, so that rounding in the network does
        not change it by a whole rank. A p-value is at least 1 / (n + 1), so it does not tell a
        score just above all calibration scores from one a hundred times larger. Above the upper
        ``TAIL`` of the calibration scores, -log p therefore follows a generalised Pareto
        distribution with the mean and variance of the excesses (peaks over threshold; Pickands,
        1975). The result is not a valid p-value: whatever is computed from it has to be calibrated
        again.
        """
        excess = (np.asarray(scores, np.float64) - self._tail_start) / self._tail_scale
        shape = self._tail_shape
        beyond = np.maximum(excess, 0.0)
        growth = np.log1p(shape * beyond) / shape if shape else beyond
        ranked = np.interp(scores, self._distinct, self._neg_log_p)
        return np.where(excess > 0, self._tail_neg_log_p + growth, ranked)


def _generalised_pareto(excess: np.ndarray) -> tuple[float, float]:
    """Return scale and shape by the method of moments (Hosking and Wallis, 1987).

    The shape is kept within [0, 0.5): with a negative shape the tail would end, and every score
    beyond its end would be infinitely unusual.
    """
    if not len(excess):
        return 1.0, 0.0  # the scale is unknown: use the unit of the score
    mean, variance = float(excess.mean()), float(excess.var())
    if not variance > mean * mean:
        return mean, 0.0
    ratio = mean * mean / variance if math.isfinite(variance) else 0.0
    return mean * (1 + ratio) / 2, (1 - ratio) / 2
