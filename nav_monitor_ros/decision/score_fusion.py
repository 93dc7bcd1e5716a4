"""The fused score: the weighted sum of its members' ``-log p``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.scores.base import Score

FUSED = 'fused'


def fuse(
    calibrated: Mapping[str, ConformalPValues],
    scores: Mapping[str, np.ndarray],
    members: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Return ``-sum w log p`` over the members, float64 (N,).

    With equal weights this is Fisher's statistic, otherwise Good's (J. R. Stat. Soc. B, 1955). The
    p-value of the fused score is its rank among calibration images, whatever the weights.

    The members are ranked among all calibration images, whatever their class: within classes there
    are too few for the tails (docs/judging.md).

    Args:
        calibrated: Calibration of each score; ``neg_log_p_values`` of each is summed.
        scores: float64 (N,) of each score.
        members: Names of the scores to fuse.
        weights: Weight of each member; 1 for those that are not named.
    """
    weights = weights or {}
    return np.sum([
        weights.get(name, 1.0) * calibrated[name].neg_log_p_values(scores[name])
        for name in members
    ], axis=0)


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
