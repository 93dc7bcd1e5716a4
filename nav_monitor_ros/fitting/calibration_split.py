"""Split of the calibration images: one part fits the fusion, the other gives p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.data.batches import ScoredImages
from nav_monitor_ros.data.image_source import ImageSource, split_indices
from nav_monitor_ros.decision.calibration import CalibrationScores
from nav_monitor_ros.decision.false_alarm_budget import check_budget, images_needed
from nav_monitor_ros.errors import NavMonitorError

FUSION_SHARE = 1 / 3  # share of the calibration images that fit the fusion; see calibrate


@dataclass(frozen=True, eq=False)
class CalibrationSplit:
    """Indices of the calibration images of each part among N images."""

    fusion: np.ndarray | None  # int64 (K,): images that fit the fusion; None for a single member
    calibration: np.ndarray  # int64 (M,): images for the p-values of the fused score

    def sets(
        self, scored: ScoredImages, groups: np.ndarray | None
    ) -> tuple[CalibrationScores | None, CalibrationScores]:
        """Return the scores of both parts as ``calibrate`` takes them.

        Args:
            scored: Scores of the N images.
            groups: (N,), equal values for images that belong together; None for none.
        """

        def part(places: np.ndarray) -> CalibrationScores:
            return CalibrationScores(
                {name: values[places] for name, values in scored.scores.items()},
                scored.predicted[places],
                None if groups is None else groups[places],
            )

        return None if self.fusion is None else part(self.fusion), part(self.calibration)

    @property
    def used(self) -> np.ndarray:
        """Return the indices of the images of both parts, int64, ascending."""
        parts = [self.calibration] if self.fusion is None else [self.fusion, self.calibration]
        return np.sort(np.concatenate(parts))


def split_calibration(images: ImageSource, members: int, seed: int) -> CalibrationSplit:
    """Split calibration images at random; those of one group stay together.

    Args:
        images: N images, each once and none of them a training image.
        members: Number of fused scores.
        seed: Random seed for the split.

    Raises:
        NavMonitorError: There are too few to be split.
    """
    if members == 1:
        return CalibrationSplit(None, np.arange(len(images)))
    rest, part = split_indices(images, FUSION_SHARE, seed)
    return CalibrationSplit(part, rest)


def check_calibration_size(
    name: str, given: int, left_out: str, split: CalibrationSplit, alpha: float, confidence: float
) -> None:
    """Check that there are enough calibration images for a budget.

    Args:
        name: Name of the source.
        given: Number of images in the source.
        left_out: Text on the unused images, for the message; '' if all are used.
        split: The images that are used.
        alpha: Share of false alarms among in-distribution frames, in (0, 1).
        confidence: Confidence with which the share holds, in (0, 1).

    Raises:
        NavMonitorError: There are too few; the message says how many are needed.
    """
    check_budget(alpha, confidence)
    needed = images_needed(alpha, confidence)
    if len(split.calibration) >= needed:
        return
    if split.fusion is None:
        wanted = f'{needed} are needed'
    else:
        wanted = (
            f'about {math.ceil(needed / (1 - FUSION_SHARE))} are needed, {needed} plus half as '
            'many to fit the fusion'
        )
    raise NavMonitorError(
        f'{given} calibration images ({name}){left_out} are too few for a false-alarm rate of '
        f'{alpha:g} at {confidence:.0%} confidence: {wanted}; give more images or a larger rate'
    )
