"""What calibration leaves behind: the scores of images that fitting never saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.decision.conformal import Conformal, images_needed, independent_images
from nav_monitor_ros.decision.e_values import STRANGE, EValues
from nav_monitor_ros.decision.mondrian import Mondrian, images_for_a_class, make_cells
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
    members: Mapping[str, Mondrian]  # of every score, on all calibration images
    marginals: Mapping[str, Conformal]  # of the members, by which they are fused, on some of them
    fused: Mondrian  # of the fusion, on the other ones
    thresholds: Mapping[str, np.ndarray]
    # float64 (C,): p-value at or below which a frame predicted as each class is
    # out-of-distribution; lacks single scores for which there are too few independent images
    independent: int  # how many independent images the fused score's are worth
    class_images: int | None = None
    # images with which a class was calibrated on its own; None for as many as paid

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
            name: self.members[name].p_values(values, labels) for name, values in scores.items()
        }
        if set(self.fuse) <= set(scores):
            fused = self.fused.p_values(self.statistic(scores), labels)
            return {FUSED: fused, **p_values}
        return p_values

    def statistic(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the fused score of many images, float64 (N,), from the scores of its members."""
        return fuse(self.marginals, scores, self.fuse)

    def statistic_of_frame(self, scores: Mapping[str, float]) -> float:
        """Return what ``statistic`` gives for one image, fast enough for every frame."""
        return sum(self.marginals[name].surprise(scores[name]) for name in self.fuse)

    def e_values(self, name: str, level: float = STRANGE) -> EValues:
        """Return what p-values of a score that has thresholds are worth as evidence.

        Args:
            name: ``fused`` or a member.
            level: P-value at or below which a frame is strange.

        Raises:
            NavMonitorError: ``level`` is not in (0, 1).
        """
        mondrian = self.fused if name == FUSED else self.members[name]
        limits = self.thresholds[name]
        sizes = [len(mondrian.cell(label)) for label in range(len(limits))]
        # As much as the fused score's images are worth, those of any other are taken to be.
        independent = [max(1, size * self.independent // len(self.fused)) for size in sizes]
        return EValues(sizes, independent, limits, self.confidence, level)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the sorted calibration scores and the classes' cells."""
        cells = {
            f'{name}/{key}': array
            for name, mondrian in {FUSED: self.fused, **self.members}.items()
            for key, array in mondrian.tensors().items()
        }
        marginals = {f'{name}/marginal': c.scores for name, c in self.marginals.items()}
        return {**cells, **marginals}


def fuse(
    calibrated: Mapping[str, Conformal],
    scores: Mapping[str, np.ndarray],
    members: Sequence[str],
) -> np.ndarray:
    """Return ``-sum log p`` over the members (Fisher's statistic), float64 (N,).

    The members are ranked among all calibration images, whatever their class: within classes there
    are too few for the tails (docs/judging.md).

    Args:
        calibrated: Calibration of each score; its ``surprises`` are summed.
        scores: float64 (N,) of each score.
        members: Names of the scores to fuse.
    """
    return np.sum([calibrated[name].surprises(scores[name]) for name in members], axis=0)


def calibrate(
    scores: Mapping[str, Score],
    marginal_images: Activations | None,
    fused_images: Activations,
    *,
    marginal_groups: np.ndarray | None = None,
    fused_groups: np.ndarray | None = None,
    fuse_members: Sequence[str],
    alpha: float,
    confidence: float,
    class_images: int | None = None,
) -> Calibration:
    """Calibrate every score, and their fusion on images that it was not made with.

    Args:
        scores: Fitted scores.
        marginal_images: Held-out in-distribution images by which the members are fused; None where
            there is but one, whose ranks its surprise does not change.
        fused_images: Other held-out in-distribution images, for the fusion's own p-values. Those of
            the single scores, which nothing but fitting has gone into, come from both.
        marginal_groups: (N,), equal values for images that belong together, such as the frames of
            one track; None if all are independent.
        fused_groups: (M,), likewise.
        fuse_members: Names of the scores to fuse.
        alpha: False-alarm budget a frame.
        confidence: With which the budget is to hold.
        class_images: Images with which a class is calibrated on its own; None for as many as let it
            use half of its budget.

    Raises:
        NavMonitorError: A member is unknown or looks at more than one frame, or there are too few
            images for the budget.
    """
    require_single_frames(scores, fuse_members)
    return calibrate_scores(
        None if marginal_images is None else {
            name: score.score(marginal_images) for name, score in scores.items()
        },
        None if marginal_images is None else marginal_images.predicted,
        {name: score.score(fused_images) for name, score in scores.items()},
        fused_images.predicted,
        classes=fused_images.logits.shape[1],
        marginal_groups=marginal_groups,
        fused_groups=fused_groups,
        fuse_members=fuse_members,
        alpha=alpha,
        confidence=confidence,
        class_images=class_images,
    )


def require_single_frames(scores: Mapping[str, Score], fuse_members: Sequence[str]) -> None:
    """Check that scores can be fused.

    Raises:
        NavMonitorError: One of them looks at more than one frame.
    """
    windowed = [name for name in fuse_members if name in scores and scores[name].windowed]
    if windowed:
        raise NavMonitorError(
            f"'{windowed[0]}' looks at more than one frame and cannot be fused; leave it out of "
            '--fuse'
        )


def calibrate_scores(
    marginal_scores: Mapping[str, np.ndarray] | None,
    marginal_labels: np.ndarray | None,
    fused_scores: Mapping[str, np.ndarray],
    fused_labels: np.ndarray,
    *,
    classes: int,
    marginal_groups: np.ndarray | None = None,
    fused_groups: np.ndarray | None = None,
    fuse_members: Sequence[str],
    alpha: float,
    confidence: float,
    class_images: int | None = None,
) -> Calibration:
    """Calibrate scores that are computed already; see ``calibrate``.

    Args:
        marginal_scores: float64 (N,) of each score, of the images by which members are fused; None
            for a single member.
        marginal_labels: int64 (N,), their predicted classes; None likewise.
        fused_scores: float64 (M,) of each score, of the other calibration images.
        fused_labels: int64 (M,).
        classes: C.
        marginal_groups: As for ``calibrate``, like all that follow.
        fused_groups: Likewise.
        fuse_members: Members.
        alpha: Budget.
        confidence: Of it.
        class_images: For a cell.

    Raises:
        NavMonitorError: A member is unknown, or there are too few images for the budget.
    """
    unknown = sorted(set(fuse_members) - set(fused_scores))
    if unknown or not fuse_members:
        raise NavMonitorError(
            f'the fused score cannot be made of {list(fuse_members)}; fitted are '
            f'{list(fused_scores)}'
        )
    values, labels, groups = dict(fused_scores), fused_labels, fused_groups
    if marginal_scores is None or marginal_labels is None:
        if len(fuse_members) > 1:
            raise NavMonitorError('several scores are fused by images of their own; give some')
        marginal_scores = fused_scores
    else:
        values = {
            name: np.concatenate([marginal_scores[name], scores])
            for name, scores in fused_scores.items()
        }
        labels = np.concatenate([marginal_labels, fused_labels])
        if marginal_groups is not None and fused_groups is not None:
            groups = np.concatenate([marginal_groups, fused_groups])
    marginals = {name: Conformal(marginal_scores[name]) for name in fuse_members}
    statistic = fuse(marginals, fused_scores, fuse_members)
    independent = len(statistic)
    if fused_groups is not None:
        independent = independent_images(statistic, fused_groups)
    _require_independent(len(statistic), independent, alpha, confidence)
    least = math.ceil(
        (images_for_a_class(alpha, confidence) if class_images is None else class_images)
        * len(statistic) / independent
    )
    least = max(images_needed(alpha, confidence), least)
    cells = make_cells(labels, classes, least)
    members = {}
    for name, scores in values.items():
        if not np.isfinite(scores).all():
            raise NavMonitorError(
                f"the score '{name}' of a calibration image is not a finite number; leave it out "
                '(--scores) or check the network'
            )
        members[name] = Mondrian(scores, labels, cells)
    fused_cells = make_cells(fused_labels, classes, least)
    fused = Mondrian(statistic, fused_labels, fused_cells)
    thresholds = {}
    for name, mondrian in members.items():
        sizes = _sizes(values[name], cells[labels], groups)
        if min(sizes) >= images_needed(alpha, confidence):
            thresholds[name] = mondrian.thresholds(alpha, confidence, sizes)
    sizes = _sizes(statistic, fused_cells[fused_labels], fused_groups)
    if min(sizes) < images_needed(alpha, confidence):
        # A class whose groups are more alike than the others' has too few; all together have not.
        fused = Mondrian(statistic, fused_labels, np.zeros(classes, np.int64))
        sizes = [independent]
    thresholds[FUSED] = fused.thresholds(alpha, confidence, sizes)
    return Calibration(
        alpha, confidence, tuple(fuse_members), members, marginals, fused, thresholds, independent,
        class_images,
    )


def _sizes(scores: np.ndarray, cells: np.ndarray, groups: np.ndarray | None) -> list[int]:
    """Return how many independent images each cell is worth."""
    count = int(cells.max()) + 1
    if groups is None:
        return np.bincount(cells, minlength=count).tolist()
    return [
        independent_images(scores[cells == cell], groups[cells == cell]) for cell in range(count)
    ]


def _require_independent(images: int, independent: int, alpha: float, confidence: float) -> None:
    needed = images_needed(alpha, confidence)
    if needed <= independent:
        return
    what = f'{images} calibration images'
    if independent < images:
        what += f' are worth {independent} independent ones, for those of one group are alike; they'
    raise NavMonitorError(
        f'{what} are too few for a false-alarm rate of {alpha:g} at {confidence:.0%} confidence: '
        f'{needed} are needed; give more images or a larger rate'
    )
