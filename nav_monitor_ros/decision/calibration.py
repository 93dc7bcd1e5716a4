"""Calibration on held-out images: p-values and thresholds of the scores and of their fusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nav_monitor_ros.decision.class_conditional_p_values import (
    ClassConditionalPValues,
    assign_cells,
)
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL, EValues
from nav_monitor_ros.decision.false_alarm_budget import (
    effective_sample_size,
    images_for_a_class,
    images_needed,
)
from nav_monitor_ros.decision.score_fusion import FUSED, fuse
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """What calibration has to achieve."""

    fusion_members: tuple[str, ...]  # names of the scores to fuse
    alpha: float  # largest share of false alarms among in-distribution frames, in (0, 1)
    confidence: float  # confidence with which that share holds, in (0, 1)
    class_images: int | None = None
    # smallest number of images for which a class is calibrated separately; None: enough to use
    # half of its budget
    fusion_weights: Mapping[str, float] = field(default_factory=dict)
    # weight of each member in the fused score, above 0; empty for equal weights


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of held-out in-distribution images."""

    scores: Mapping[str, np.ndarray]  # by name, float64 (N,) each
    predicted: np.ndarray  # int64 (N,), the predicted classes
    groups: np.ndarray | None = None
    # (N,), equal values for images that belong together, such as the frames of one track; None if
    # all images are independent

    @classmethod
    def of(
        cls, scores: Mapping[str, Score], images: Activations, groups: np.ndarray | None = None
    ) -> CalibrationScores:
        """Return the scores of images.

        Args:
            scores: Fitted scores by name.
            images: N images.
            groups: (N,), as in the class.
        """
        return cls(
            {name: score.score(images) for name, score in scores.items()}, images.predicted, groups
        )


@dataclass(frozen=True)
class Calibration:
    """Calibration scores of each score and of their fusion, with the thresholds they support."""

    alpha: float  # largest share of false alarms among in-distribution frames
    confidence: float  # confidence with which that share holds
    fusion_members: tuple[str, ...]  # names of the scores that are fused
    scores: Mapping[str, ClassConditionalPValues]  # of every score, from all calibration images
    fusion_p_values: Mapping[str, ConformalPValues]
    # of the members: their -log p is summed; from one part of the calibration images
    fused: ClassConditionalPValues  # of the fused score, from the other part
    thresholds: Mapping[str, np.ndarray]
    # float64 (C,): p-value at or below which a frame predicted as each class is
    # out-of-distribution; lacks single scores for which there are too few independent images
    effective_size: int  # effective sample size of the fused score's calibration images
    class_images: int | None = None  # as in CalibrationOptions
    fusion_weights: Mapping[str, float] = field(default_factory=dict)  # likewise

    def p_values_of(self, name: str) -> ClassConditionalPValues:
        """Return the calibration of ``fused`` or of a single score."""
        return self.fused if name == FUSED else self.scores[name]

    def p_values(
        self, scores: Mapping[str, np.ndarray], labels: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the p-values of many images.

        Args:
            scores: float64 (N,) of every score, or of some of them.
            labels: int64 (N,), the predicted classes.

        Returns:
            float64 (N,) of each of these scores, and of ``fused`` if all of its members are there.
        """
        p_values = {
            name: self.scores[name].p_values(values, labels) for name, values in scores.items()
        }
        if set(self.fusion_members) <= set(scores):
            fused = self.fused.p_values(self.fused_scores(scores), labels)
            return {FUSED: fused, **p_values}
        return p_values

    def fused_scores(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the fused score of many images, float64 (N,), from the scores of its members."""
        return fuse(self.fusion_p_values, scores, self.fusion_members, self.fusion_weights)

    def fusion_terms_of_frame(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Return each member's weighted -log p for one image, fast enough for every frame.

        Their sum is the image's fused score.
        """
        weights = self.fusion_weights
        return {
            name: weights.get(name, 1.0) * self.fusion_p_values[name].neg_log_p_value(scores[name])
            for name in self.fusion_members
        }

    def e_values(self, name: str, level: float = DEFAULT_EVIDENCE_LEVEL) -> EValues:
        """Return the e-values of the p-values of a score that has thresholds.

        Args:
            name: ``fused`` or a member.
            level: P-value at or below which a frame counts as evidence.

        Raises:
            NavMonitorError: ``level`` is not in (0, 1).
        """
        p_values = self.p_values_of(name)
        limits = self.thresholds[name]
        sizes = [len(p_values.cell(label)) for label in range(len(limits))]
        # The design effect of the fused score is used for every score.
        effective = [max(1, size * self.effective_size // len(self.fused)) for size in sizes]
        return EValues(sizes, effective, limits, self.confidence, level)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the sorted calibration scores and the classes' cells."""
        cells = {
            f'{name}/{key}': array
            for name, p_values in {FUSED: self.fused, **self.scores}.items()
            for key, array in p_values.tensors().items()
        }
        fusion = {f'{name}/marginal': c.scores for name, c in self.fusion_p_values.items()}
        return {**cells, **fusion}


def calibrate(
    fusion_set: CalibrationScores | None,
    calibration_set: CalibrationScores,
    *,
    classes: int,
    options: CalibrationOptions,
) -> Calibration:
    """Calibrate every score, and their fusion on images by which the members were not fused.

    Args:
        fusion_set: Images by which the members are fused; None where there is a single member, the
            order of whose values -log p does not change.
        calibration_set: Other images, for the p-values of the fused score. The p-values of the
            single scores come from the images of both sets: they depend on fitting alone.
        classes: C.
        options: The members, the budget and its confidence.

    Raises:
        NavMonitorError: A member is unknown, a score is not a finite number, or there are too few
            images for the budget.
    """
    names = options.fusion_members
    _require_members(names, calibration_set)
    every, fusion_p_values = _fusion(fusion_set, calibration_set, names)
    statistic = fuse(
        fusion_p_values, calibration_set.scores, names, options.fusion_weights
    )
    effective = len(statistic)
    if calibration_set.groups is not None:
        effective = effective_sample_size(statistic, calibration_set.groups)
    alpha, confidence = options.alpha, options.confidence
    needed = images_needed(alpha, confidence)
    _require_enough(len(statistic), effective, needed, options)
    wanted = options.class_images
    if wanted is None:
        wanted = images_for_a_class(alpha, confidence)
    least = max(needed, math.ceil(wanted * len(statistic) / effective))
    cells = assign_cells(every.predicted, classes, least)
    scores, thresholds = {}, {}
    for name, values in every.scores.items():
        if not np.isfinite(values).all():
            raise NavMonitorError(
                f"the score '{name}' of a calibration image is not a finite number; leave it out "
                '(--scores) or check the network'
            )
        scores[name] = ClassConditionalPValues(values, every.predicted, cells)
        sizes = _effective_sizes(values, cells[every.predicted], every.groups)
        if min(sizes) >= needed:
            thresholds[name] = scores[name].thresholds(alpha, confidence, sizes)
    predicted, groups = calibration_set.predicted, calibration_set.groups
    cells = assign_cells(predicted, classes, least)
    sizes = _effective_sizes(statistic, cells[predicted], groups)
    if min(sizes) < needed:
        # The groups of some class are more alike than others; all classes together have enough.
        cells, sizes = np.zeros(classes, np.int64), [effective]
    fused = ClassConditionalPValues(statistic, predicted, cells)
    thresholds[FUSED] = fused.thresholds(alpha, confidence, sizes)
    return Calibration(
        alpha, confidence, tuple(names), scores, fusion_p_values, fused, thresholds, effective,
        options.class_images, dict(options.fusion_weights),
    )


def _require_members(names: Sequence[str], calibration_set: CalibrationScores) -> None:
    if not names or not set(names) <= set(calibration_set.scores):
        raise NavMonitorError(
            f'the fused score cannot be made of {list(names)}; fitted are '
            f'{list(calibration_set.scores)}'
        )


def _fusion(
    fusion_set: CalibrationScores | None, calibration_set: CalibrationScores, names: Sequence[str]
) -> tuple[CalibrationScores, dict[str, ConformalPValues]]:
    """Return the scores of all calibration images, and the members' p-values for fusing them."""
    if fusion_set is None:
        if len(names) > 1:
            raise NavMonitorError('several scores are fused by images of their own; give some')
        fusion_set, every = calibration_set, calibration_set
    else:
        every = _concatenated(fusion_set, calibration_set)
    return every, {name: ConformalPValues(fusion_set.scores[name]) for name in names}


def _concatenated(first: CalibrationScores, second: CalibrationScores) -> CalibrationScores:
    groups = second.groups
    if first.groups is not None and groups is not None:
        groups = np.concatenate([first.groups, groups])
    return CalibrationScores(
        {name: np.concatenate([first.scores[name], second.scores[name]]) for name in second.scores},
        np.concatenate([first.predicted, second.predicted]),
        groups,
    )


def _effective_sizes(
    scores: np.ndarray, cells: np.ndarray, groups: np.ndarray | None
) -> list[int]:
    """Return the effective sample size of each cell."""
    count = int(cells.max()) + 1
    if groups is None:
        return np.bincount(cells, minlength=count).tolist()
    return [
        effective_sample_size(scores[cells == cell], groups[cells == cell])
        for cell in range(count)
    ]


def _require_enough(images: int, effective: int, needed: int, options: CalibrationOptions) -> None:
    if needed <= effective:
        return
    what = f'{images} calibration images'
    if effective < images:
        what += (
            f' are worth {effective} independent ones, because images of one group are alike; they'
        )
    raise NavMonitorError(
        f'{what} are too few for a false-alarm rate of {options.alpha:g} at '
        f'{options.confidence:.0%} confidence: {needed} are needed; give more images or a larger '
        'rate'
    )
