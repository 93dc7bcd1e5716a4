"""What the flagged images of a source are unusual in."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.evaluation.results import FlaggedKinds
from nav_monitor_ros.evaluation.scored_images import JudgedImages
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


def strongest_members(judge: Judge, images: JudgedImages) -> np.ndarray:
    """Return the member of the deciding score with the strongest evidence, for each image.

    As ``Verdict.strongest_member``: the one with the smallest p-value; among equal p-values, the
    one that contributes most to the fused score.

    Returns:
        int64 (N,): indices into ``judge.members``.
    """
    p_values = np.array([images.p_values[name] for name in judge.members])
    calibration = judge.calibration
    terms = np.array([
        calibration.fusion_weights.get(name, 1.0)
        * calibration.fusion_p_values[name].neg_log_p_values(images.scores[name])
        if judge.fuses else np.zeros(len(images)) for name in judge.members
    ])
    return np.where(p_values == p_values.min(axis=0), terms, -np.inf).argmax(axis=0)


def kinds_at_threshold(judge: Judge, images: JudgedImages) -> dict[EvidenceKind, np.ndarray]:
    """Return on which images each kind of evidence is at or below the threshold, bool (N,).

    As ``Verdict.flagged_kinds``, also for images that are not flagged.
    """
    thresholds = judge.thresholds[images.predicted]
    found = {}
    for kind in EvidenceKind:
        of_kind = {name: images.kinds[name] == kind.value for name in judge.members}
        if any(mask.any() for mask in of_kind.values()):
            small = [mask & (images.p_values[n] <= thresholds) for n, mask in of_kind.items()]
            found[kind] = np.any(small, axis=0)
    return found


def evidence_kinds(judge: Judge, images: JudgedImages) -> np.ndarray:
    """Return the kind of each image's strongest evidence, as text (N,); '' if it is not flagged."""
    kinds = np.array([images.kinds[name] for name in judge.members])
    flagged = images.p_values[judge.decisive] <= judge.thresholds[images.predicted]
    strongest = kinds[strongest_members(judge, images), np.arange(len(images))]
    return np.where(flagged, strongest, '')


def flagged_kinds(judge: Judge, images: JudgedImages) -> FlaggedKinds:
    """Count what the flagged images of a source are unusual in."""
    strongest = evidence_kinds(judge, images)
    flagged = strongest != ''
    unusual = kinds_at_threshold(judge, images)
    any_unusual = np.any(list(unusual.values()), axis=0)
    return FlaggedKinds(
        flagged=int(flagged.sum()),
        strongest={kind.value: int((strongest == kind.value).sum()) for kind in unusual},
        at_threshold={kind.value: int((flagged & of).sum()) for kind, of in unusual.items()},
        none_at_threshold=int((flagged & ~any_unusual).sum()),
    )
