"""Conformal p-values: the score of a frame ranked among calibration scores."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

TAIL = 0.05  # share of the calibration scores whose excess gives the tail's form


class ConformalPValues:
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
        above = float(np.nextafter(self._tail_start, np.inf))
        self._tail_neg_log_p = -math.log(self.p_value(above))

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
        """Return what ``neg_log_p_values`` gives for one score, fast enough for every frame."""
        excess = (score - self._tail_start) / self._tail_scale
        if not excess > 0:
            return -math.log(self.p_value(score))
        shape = self._tail_shape
        growth = math.log1p(shape * excess) / shape if shape else excess
        return self._tail_neg_log_p + growth

    def neg_log_p_values(self, scores: np.ndarray) -> np.ndarray:
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
        return np.where(excess > 0, self._tail_neg_log_p + growth, -np.log(self.p_values(scores)))


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
