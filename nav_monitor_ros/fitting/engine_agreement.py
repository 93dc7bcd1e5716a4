"""Compare another engine's scores with those of the network's own engine."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.engines import Approval
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.decision.calibration import (
    Calibration,
    CalibrationOptions,
    CalibrationScores,
    calibrate,
)
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.false_alarm_budget import (
    effective_sample_size,
    images_needed,
    p_value_threshold,
)
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import Engine

# Share of a score's standard deviation that rounding alone may change. Otherwise the last bit of a
# float could push a calibration image that lies at the threshold over it.
ROUNDING = 1e-4
# Probability of flagging as many in-distribution images by chance, below which images are taken for
# others. The budget is an upper bound, so that in-distribution images rarely come near it.
_CHANCE = 1e-3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineScores:
    """Scores of the calibration images with one engine, split as by ``fit``."""

    fusion_set: CalibrationScores | None  # images that fit the fusion; None for a single member
    calibration_set: CalibrationScores

    def of(self, name: str, calibration: Calibration) -> CalibrationScores:
        """Return a score, ``fused`` or a member, of all images that calibrate it."""
        own, other = self.calibration_set, self.fusion_set
        if name == FUSED:
            fused = calibration.fused_scores(own.scores)
            return CalibrationScores({name: fused}, own.predicted, own.groups)
        if other is None:
            return CalibrationScores({name: own.scores[name]}, own.predicted, own.groups)
        groups = None
        if own.groups is not None and other.groups is not None:
            groups = np.concatenate([other.groups, own.groups])
        return CalibrationScores(
            {name: np.concatenate([other.scores[name], own.scores[name]])},
            np.concatenate([other.predicted, own.predicted]), groups,
        )

    @property
    def predicted(self) -> np.ndarray:
        """Return the predicted classes of all images, int64 (N,)."""
        other = [] if self.fusion_set is None else [self.fusion_set.predicted]
        return np.concatenate([*other, self.calibration_set.predicted])


def judge_engine(
    bundle: Bundle, engine: Engine, expected: EngineScores, found: EngineScores, source: str
) -> Approval:
    """Decide whether an engine may run the network, and with which calibration.

    Args:
        bundle: Bundle with the calibration of its own engine.
        engine: Engine to examine.
        expected: Scores of the calibration images with the bundle's own engine.
        found: Scores with this engine.
        source: Source of the images.
    """
    calibration = bundle.calibration
    changes = []
    for name, score in bundle.scores.items():
        if score.windowed:
            continue
        before, after = (one.of(name, calibration).scores[name] for one in (expected, found))
        changes.append(float(np.abs(before - after).max() / (before.std() or 1.0)))
    own, refused = None, ''
    failing = disagreements(bundle, expected, found)
    if failing:
        try:
            own = calibrate(
                found.fusion_set, found.calibration_set, classes=len(bundle.class_names),
                options=CalibrationOptions(
                    fusion_members=calibration.fusion_members, alpha=calibration.alpha,
                    confidence=calibration.confidence, class_images=calibration.class_images,
                    fusion_weights=calibration.fusion_weights,
                ),
            )
        except NavMonitorError as error:
            # The rest of that message is advice on options of `fit`.
            reason = str(error).partition('; give ')[0]
            refused = f'{failing[0]}, and it cannot be calibrated separately: {reason}'
        else:
            _log.info('%s is calibrated separately: %s', engine, failing[0])
    return Approval(
        engine=engine,
        source=source_label(source),
        images=len(expected.predicted),
        largest_change=max(changes, default=0.0),
        reclassified=int((expected.predicted != found.predicted).sum()),
        flagged=_flagged(calibration if own is None else own, found),
        flagged_by_reference=_flagged(calibration, expected),
        refused=refused,
        calibration=own,
    )


def require_in_distribution(
    bundle: Bundle, scores: EngineScores, source: str, advice: str
) -> None:
    """Check that images on which a monitor was not calibrated are in-distribution for it.

    An engine that is calibrated separately on other images would no longer flag images like them.

    Args:
        bundle: Bundle with the calibration of its own engine.
        scores: Scores of the images with that engine.
        source: Source of the images.
        advice: Which images to give instead, for the message.

    Raises:
        NavMonitorError: The fused score flags more of them than the budget explains.
    """
    from scipy.stats import binom  # takes half a second to import

    calibration = bundle.calibration
    fused = scores.of(FUSED, calibration)
    images, flagged = len(fused.predicted), _flagged(calibration, scores)
    effective = images
    if fused.groups is not None:
        effective = effective_sample_size(fused.scores[FUSED], fused.groups)
    share = math.floor(flagged / images * effective + 1e-9)
    if binom.sf(share - 1, effective, calibration.alpha) < _CHANCE:
        raise NavMonitorError(
            f'{source} does not hold in-distribution images: the monitor itself flags {flagged} of '
            f'{images}, and its budget is {100 * calibration.alpha:.3g} %; {advice}'
        )


def disagreements(bundle: Bundle, expected: EngineScores, found: EngineScores) -> list[str]:
    """Return why a bundle's calibration is not valid for an engine.

    A threshold t keeps the budget with the stated confidence if at most k of the n calibration
    images score above it, with k from ``p_value_threshold``: then the k-th largest of the engine's
    own scores, which keeps the budget, is not above t.

    Args:
        bundle: Bundle with the calibration in question.
        expected: Scores of the calibration images with the bundle's own engine.
        found: Scores with the other engine.
    """
    calibration = bundle.calibration
    reasons = []
    for name, limits in calibration.thresholds.items():
        if name in bundle.scores and bundle.scores[name].windowed:
            continue  # makes no promise
        ranked = calibration.fused if name == FUSED else calibration.scores[name]
        before, after = expected.of(name, calibration), found.of(name, calibration)
        scores, classes = after.scores[name], after.predicted
        if not np.isfinite(scores).all():
            reasons.append(f'{name} is not a finite number on some images')
            continue
        rounded = scores - ROUNDING * (before.scores[name].std() or 1.0)
        p_values = ranked.p_values(rounded, classes)
        cells = ranked.cell_of_class[classes]
        for cell in range(len(ranked.cells)):
            rows = cells == cell
            flagged = int((p_values[rows] <= limits[classes[rows]]).sum())
            allowed = _allowed(
                scores[rows], None if after.groups is None else after.groups[rows], calibration
            )
            if flagged > allowed:
                reasons.append(
                    f'{name} flags {flagged} of {int(rows.sum())} calibration images, and '
                    f'{max(allowed, 0)} are allowed'
                )
        if name == FUSED:
            p_values_before = ranked.p_values(before.scores[name], before.predicted)
            odd, odd_before = (
                int((values <= DEFAULT_EVIDENCE_LEVEL).sum())
                for values in (p_values, p_values_before)
            )
            if odd > odd_before:
                reasons.append(
                    f'{odd} calibration images are evidence (p <= {DEFAULT_EVIDENCE_LEVEL:g}), '
                    f'and {odd_before} were'
                )
    return reasons


def _allowed(scores: np.ndarray, groups: np.ndarray | None, calibration: Calibration) -> int:
    """Return how many images of a cell may score above a threshold within the budget."""
    alpha, confidence, n = calibration.alpha, calibration.confidence, len(scores)
    effective = n if groups is None or not n else effective_sample_size(scores, groups)
    if effective < images_needed(alpha, confidence):
        return -1
    return math.floor(p_value_threshold(effective, alpha, confidence) * (n + 1) + 1e-9) - 1


def _flagged(calibration: Calibration, engine: EngineScores) -> int:
    """Return the number of images that the fused score flags."""
    fused = engine.of(FUSED, calibration)
    p_values = calibration.fused.p_values(fused.scores[FUSED], fused.predicted)
    return int((p_values <= calibration.thresholds[FUSED][fused.predicted]).sum())
