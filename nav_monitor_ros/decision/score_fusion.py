"""The fused score: the logarithm of the sum of its members' ``1 / p``."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.special import logsumexp

from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.scores.base import Score

FUSED = 'fused'


def fuse(
    calibrated: Mapping[str, ConformalPValues],
    scores: Mapping[str, np.ndarray],
    members: Sequence[str],
) -> np.ndarray:
    """Return ``log sum 1 / p`` over the members, float64 (N,).

    Except for a constant, this is -log of the harmonic mean of the p-values. One member with a very
    small p suffices, however large the others' are; several moderately small ones add up. The sum
    of -log p (Fisher) loses the former among the others. The calibration of the fused score makes
    the result valid however the members depend on each other.
    Source: Wilson, The harmonic mean p-value for combining dependent tests, PNAS 2019.

    The members are ranked among all calibration images, whatever their class: within classes there
    are too few for the tails (docs/judging.md).

    Args:
        calibrated: Calibration of each score, which gives ``neg_log_p_values``.
        scores: float64 (N,) of each score.
        members: Names of the scores to fuse.
    """
    terms = [calibrated[name].neg_log_p_values(scores[name]) for name in members]
    fused: np.ndarray = logsumexp(terms, axis=0)
    return fused


def fuse_frame(terms: Collection[float]) -> float:
    """Return the fused score of one image from its members' -log p."""
    largest = max(terms)
    return largest + math.log(sum(math.exp(term - largest) for term in terms))


def require_single_frames(scores: Mapping[str, Score], fusion_members: Sequence[str]) -> None:
    """Check that scores can be fused.

    Raises:
        NavMonitorError: One of them looks at more than one frame.
    """
    windowed = [name for name in fusion_members if name in scores and scores[name].windowed]
    if windowed:
        raise NavMonitorError(
            f"'{windowed[0]}' looks at more than one frame and cannot be fused; leave it out of "
            '--fuse'
        )
