"""What calibration leaves behind: the scores of images that fitting never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.decision.conformal import Conformal, p_threshold
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score

FUSED = 'fused'


@dataclass(frozen=True)
class Calibration:
    """Calibration scores of each score and of their fusion, with the thresholds they support."""

    alpha: float  # largest share of false alarms among in-distribution frames
    confidence: float  # with which that holds
    fuse: tuple[str, ...]  # members of the fused score
    members: Mapping[str, Conformal]  # of every score
    fused: Conformal  # of the fusion, on images that no member was calibrated on
    thresholds: Mapping[str, float]  # p-value at or below which a frame is out-of-distribution

    def p_values(self, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the p-values of many images.

        Args:
            scores: float64 (N,) of every score.

        Returns:
            float64 (N,) of every score and of ``fused``.
        """
        p_values = {name: self.members[name].p_values(values) for name, values in scores.items()}
        p_values[FUSED] = self.fused.p_values(self.statistic(scores))
        return p_values

    def statistic(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the fused score of many images, float64 (N,), from the scores of its members."""
        return fuse(self.members, scores, self.fuse)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the sorted calibration scores, float64."""
        return {
            FUSED: self.fused.scores,
            **{name: conformal.scores for name, conformal in self.members.items()},
        }


def fuse(
    calibrated: Mapping[str, Conformal],
    scores: Mapping[str, np.ndarray],
    members: Sequence[str],
) -> np.ndarray:
    """Return ``-sum log p`` over the members (Fisher's statistic), float64 (N,).

    Args:
        calibrated: Calibration of each score; its ``surprises`` are summed.
        scores: float64 (N,) of each score.
        members: Names of the scores to fuse.
    """
    return np.sum([calibrated[name].surprises(scores[name]) for name in members], axis=0)


def calibrate(
    scores: Mapping[str, Score],
    members_images: Activations,
    fused_images: Activations,
    *,
    fuse_members: Sequence[str],
    alpha: float,
    confidence: float,
) -> Calibration:
    """Calibrate every score, and their fusion on images of its own.

    Args:
        scores: Fitted scores.
        members_images: Held-out in-distribution images for the single scores.
        fused_images: Other held-out in-distribution images, for the fusion.
        fuse_members: Names of the scores to fuse.
        alpha: False-alarm budget a frame.
        confidence: With which the budget is to hold.

    Raises:
        NavMonitorError: A member is unknown, or there are too few images for the budget.
    """
    unknown = sorted(set(fuse_members) - set(scores))
    if unknown or not fuse_members:
        raise NavMonitorError(
            f'the fused score cannot be made of {list(fuse_members)}; fitted are {list(scores)}'
        )
    members = {name: Conformal(score.score(members_images)) for name, score in scores.items()}
    held_out = {name: scores[name].score(fused_images) for name in fuse_members}
    fused = Conformal(fuse(members, held_out, fuse_members))
    thresholds = {
        name: p_threshold(len(conformal), alpha, confidence)
        for name, conformal in {**members, FUSED: fused}.items()
    }
    return Calibration(alpha, confidence, tuple(fuse_members), members, fused, thresholds)
