"""Run the network on the calibration images and calibrate the scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nav_monitor_ros.bundle.used_images import CalibrationImages, TrainingImages
from nav_monitor_ros.data.batches import Progress, ScoredImages, score_images
from nav_monitor_ros.data.distinct_images import first_occurrences
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.decision.calibration import Calibration, CalibrationOptions, calibrate
from nav_monitor_ros.decision.degenerate_scores import degenerate_scores, duplicates
from nav_monitor_ros.decision.score_fusion import require_single_frames
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.calibration_split import (
    CalibrationSplit,
    check_calibration_size,
    split_calibration,
)
from nav_monitor_ros.fitting.fit_options import WEIGHTED, FitOptions
from nav_monitor_ros.fitting.fusion_weights import learn_fusion_weights
from nav_monitor_ros.fitting.image_checks import Accuracy, accuracy_of, warn_of_order
from nav_monitor_ros.fitting.provenance import describe_images
from nav_monitor_ros.fitting.score_selection import fusion_members
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.base import Score

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """A calibration and how its images were used."""

    calibration: Calibration
    images: CalibrationImages  # number of images used
    described: Mapping[str, Any]  # source, number and fingerprint of the used images
    invalid: int  # images left out since the network gives NaN or infinity
    shared: int  # images left out since the scores were fitted to them
    copies: int  # images left out since they are duplicates
    left_out: Mapping[str, str]  # scores without calibration, with the reason
    degenerate: Mapping[str, str]  # scores that carry no information of their own, with the reason
    accuracy: Accuracy | None  # of the network on the used images; None without labels


def check_calibration_source(
    source: ImageSource, scores: Mapping[str, Score], options: FitOptions
) -> None:
    """Check in advance that a source has enough images and that the scores can be fused.

    Raises:
        NavMonitorError: It has too few, or a member of the fusion uses more than one frame.
    """
    members = fusion_members(scores, options)
    require_single_frames(scores, members)
    check_calibration_size(
        source.name, len(source), '', split_calibration(source, len(members), options.seed),
        options.false_alarm_rate, options.confidence,
    )


def calibrate_on_images(
    classifier: RunningNetwork,
    scores: Mapping[str, Score],
    source: ImageSource,
    training: TrainingImages,
    options: FitOptions,
    *,
    class_names: Sequence[str],
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
    invalid: InvalidImages | None = None,
) -> CalibrationResult:
    """Calibrate fitted scores; only the scores of the images are kept.

    Args:
        classifier: Network set up to yield what the scores need.
        scores: Fitted scores.
        source: In-distribution images. Training images and duplicates among them are left out,
            since neither tells how a new image scores.
        training: The images that the scores were fitted to.
        options: Fusion and budget.
        class_names: In the order of the network's outputs.
        workers: Threads that read and decode.
        progress: Called with the stage, the number of images done and the total.
        invalid: Handling of images that give NaN or infinity; by default the first one raises.

    Raises:
        NavMonitorError: There are too few images for the budget, or an image cannot be used.
    """
    scored = score_images(
        classifier, scores, source, progress, 'calibrating', workers=workers, digests=True,
        invalid=invalid,
    )
    shared = training.contain(scored.digests)
    kept = np.flatnonzero(~shared & first_occurrences(scored.digests))
    copies = len(shared) - int(shared.sum()) - len(kept)
    if copies:
        _log.warning(
            '%d of %d calibration images are copies of others and are left out: identical images '
            'count once', copies, len(source),
        )
    if shared.any() and not len(kept):
        raise NavMonitorError(
            f'all images of the calibration source {source.name} are training images too; '
            'calibrate on images held out from training'
        )
    images, scored = source.subset(scored.places[kept]), scored[kept]
    labels = images.numbered_for(class_names, classifier.background).labels
    accuracy = None if labels is None else accuracy_of(labels, scored.predicted)
    if labels is not None:
        warn_of_order(labels, scored.predicted, class_names)
    scores, scored, undefined = _defined(scores, scored, options)
    degenerate = _degenerate(
        scores, scored, split_calibration(images, len(fusion_members(scores, options)),
                                          options.seed), options)
    members = fusion_members(scores, options, degenerate)
    if not members:
        raise NavMonitorError(
            'no score of this network tells images apart ('
            + '; '.join(f'{name}: {reason}' for name, reason in degenerate.items())
            + '); check weights and preprocessing'
        )
    split = split_calibration(images, len(members), options.seed)
    check_calibration_size(
        source.name, len(source), _left_out(len(source) - len(shared), int(shared.sum()), copies),
        split, options.false_alarm_rate, options.confidence,
    )
    fusion_set, calibration_set = split.sets(scored, images.groups)
    weights: Mapping[str, float] = {}
    if options.fusion == WEIGHTED and split.fusion is not None and fusion_set is not None:
        weights = learn_fusion_weights(
            classifier, {name: scores[name] for name in members}, images.subset(split.fusion),
            fusion_set.scores, seed=options.seed, progress=progress,
        )
        members = tuple(weights)
    calibration = calibrate(
        fusion_set, calibration_set, classes=classifier.classes,
        options=CalibrationOptions(
            fusion_members=members, alpha=options.false_alarm_rate,
            confidence=options.confidence, class_images=options.class_images,
            fusion_weights=weights,
        ),
    )
    fuses = np.zeros(len(images), bool)
    if split.fusion is not None:
        fuses[split.fusion] = True
    return CalibrationResult(
        calibration, CalibrationImages.of(scored.digests, fuses),
        describe_images(images, scored.digests), len(source) - len(shared), int(shared.sum()),
        copies, undefined, degenerate, accuracy,
    )


def _defined(
    scores: Mapping[str, Score], scored: ScoredImages, options: FitOptions
) -> tuple[dict[str, Score], ScoredImages, dict[str, str]]:
    """Return the scores that are finite on all images, their values, and why others are not.

    A score that the user named stays, so that ``calibrate`` refuses it.
    """
    named = {*options.named, *(options.fuse or ())}
    left_out = {}
    for name, values in scored.scores.items():
        infinite = int((~np.isfinite(values)).sum())
        if infinite and name not in named:
            left_out[name] = f'it is not a finite number for {infinite} calibration images'
    kept = {name: values for name, values in scored.scores.items() if name not in left_out}
    return (
        {name: scores[name] for name in kept}, replace(scored, scores=kept), left_out
    )


def _degenerate(
    scores: Mapping[str, Score], scored: ScoredImages, split: CalibrationSplit, options: FitOptions
) -> dict[str, str]:
    """Return the scores that carry no information of their own, with the reason.

    By the images that fit the fusion: choosing its members by them leaves the calibration valid.
    """
    places = split.calibration if split.fusion is None else split.fusion
    values = {
        name: found for name, every in scored.scores.items()
        if np.isfinite(found := every[places]).all() and len(found)
    }
    degenerate = degenerate_scores(scores, values)
    members = [
        name for name in fusion_members(scores, options)
        if name in values and name not in degenerate
    ]
    return {**degenerate, **duplicates(members, scores, values)}


def _left_out(invalid: int, shared: int, copies: int) -> str:
    """Return a text on the images that are not used, for a message."""
    parts = [
        f'{count} {what}' for count, what in (
            (shared, 'are training images too'), (copies, 'are copies of others'),
            (invalid, 'give NaN or infinity'),
        ) if count
    ]
    return f', of which {", ".join(parts)},' if parts else ''
