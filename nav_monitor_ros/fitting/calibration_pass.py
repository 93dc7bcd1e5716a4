"""Run the network on the calibration images and calibrate the scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.bundle.used_images import CalibrationImages, TrainingImages
from nav_monitor_ros.data.batches import Progress, score_images
from nav_monitor_ros.data.distinct_images import first_occurrences
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.decision.calibration import Calibration, CalibrationOptions, calibrate
from nav_monitor_ros.decision.score_fusion import require_single_frames
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.calibration_split import check_calibration_size, split_calibration
from nav_monitor_ros.fitting.fit_options import FitOptions
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
    members = fusion_members(scores, options)
    split = split_calibration(images, len(members), options.seed)
    check_calibration_size(
        source.name, len(source), _left_out(len(source) - len(shared), int(shared.sum()), copies),
        split, options.false_alarm_rate, options.confidence,
    )
    fusion_set, calibration_set = split.sets(scored, images.groups)
    calibration = calibrate(
        fusion_set, calibration_set, classes=classifier.classes,
        options=CalibrationOptions(
            fusion_members=members, alpha=options.false_alarm_rate,
            confidence=options.confidence, class_images=options.class_images,
        ),
    )
    fuses = np.zeros(len(images), bool)
    if split.fusion is not None:
        fuses[split.fusion] = True
    return CalibrationResult(
        calibration, CalibrationImages.of(scored.digests, fuses),
        describe_images(images, scored.digests), len(source) - len(shared), int(shared.sum()),
        copies,
    )


def _left_out(invalid: int, shared: int, copies: int) -> str:
    """Return a text on the images that are not used, for a message."""
    parts = [
        f'{count} {what}' for count, what in (
            (shared, 'are training images too'), (copies, 'are copies of others'),
            (invalid, 'give NaN or infinity'),
        ) if count
    ]
    return f', of which {", ".join(parts)},' if parts else ''
