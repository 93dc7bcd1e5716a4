"""Results of an evaluation: metrics by source and score, and the scores of every image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.evaluation.scored_images import JudgedImages

Scores = Mapping[str, np.ndarray]  # score -> float64 (N,)


@dataclass(frozen=True)
class Separation:
    """Separation of one OOD source from the in-distribution one by one score."""

    auroc: float  # probability that an OOD image scores higher than an in-distribution one
    aupr: float  # average precision with OOD as the positive class
    fpr_at_95_recall: float
    # share of in-distribution images flagged at the threshold that flags 95 % of the OOD images
    ood_missed_at_95_id_kept: float
    # share of OOD images not flagged at the threshold that keeps 95 % of the in-distribution images
    # Share of OOD images flagged at the calibrated threshold; None without one.
    detected: float | None


@dataclass(frozen=True)
class MeanSeparation:
    """Means of one score over all OOD sources, each with the same weight."""

    auroc: float
    aupr: float
    fpr_at_95_recall: float
    ood_missed_at_95_id_kept: float
    detected: float | None  # None without a calibrated threshold


@dataclass(frozen=True)
class FalseAlarms:
    """Measured false-alarm rate of the calibrated threshold on the in-distribution source."""

    rate: float
    low: float  # exact 95 % confidence interval (Clopper and Pearson)
    high: float
    budget: float
    confidence: float  # with which the budget holds over the population of all frames
    calibrated: int  # number of calibration images
    expected_within: float | None
    # Share of random splits into as many calibration and test images in which at most ``budget`` is
    # flagged; None where images are not exchangeable.


@dataclass(frozen=True)
class FlaggedKinds:
    """What the flagged images of a source are unusual in, by the fused score's members."""

    flagged: int
    strongest: dict[str, int]  # kind of evidence -> images on which it is the strongest
    # kind of evidence -> images on which it is at or below the threshold by itself
    at_threshold: dict[str, int]
    none_at_threshold: int  # images on which no kind is


@dataclass(frozen=True)
class Coverage:
    """Number of misclassified images among the flagged ones."""

    images: int
    flagged: int
    misclassified: int
    misclassified_flagged: int


@dataclass(frozen=True)
class Stream:
    """Alerts by the node's default evidence rules when sources are played as video."""

    false_alarms: int  # on the in-distribution stream
    false_alarms_per_hour: float
    at_most_per_hour: float  # exact upper 95 % bound, if alarms are independent (Garwood)
    hours: float  # duration of the in-distribution stream
    share_alerted: float  # share of its frames with the alert raised
    # OOD source -> median; None if most streams never alert.
    frames_to_alert: dict[str, float | None]
    frames_to_alert_p95: dict[str, float | None]
    never_alerted: dict[str, float]  # OOD source -> share of the streams without an alert


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation."""

    images: dict[str, int]  # source name -> number of images; the in-distribution one is first
    accuracy: float | None  # on the in-distribution source, None without labels
    # Accuracy if predictions did not depend on the image, but were as frequent; None without labels
    chance: float | None
    false_alarms: dict[str, FalseAlarms]  # by score
    grouped: str  # which images come in groups, so that ``expected_within`` is unknown; '' if none
    separation: dict[str, dict[str, Separation]]  # OOD source -> score -> metrics
    means: dict[str, MeanSeparation]  # by score, over all OOD sources; empty without any
    evidence_kinds: dict[str, FlaggedKinds]  # by source; empty if the fused score was not computed
    coverage: dict[str, Coverage]  # by score, at its threshold; empty without labels
    out_of_pattern: dict[int, Coverage]  # by gamma, of the score ``pattern``; empty without labels
    out_of_pattern_of_class: dict[str, dict[int, Coverage]]  # the same, by predicted class
    streams: dict[str, Stream]  # by score
    stream_seed: int | None  # of the in-distribution stream; None: each image once, in order
    ood_seconds: float  # duration of each OOD stream
    microseconds: dict[str, float]  # by score, median per frame, given its activations
    fused: tuple[str, ...]  # members of the fused score

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class JudgedSources:
    """Per-image scores of every source, for further analysis."""

    sources: Mapping[str, JudgedImages]  # the in-distribution one first

    @property
    def scores(self) -> Mapping[str, Scores]:
        """Return the scores by source."""
        return {name: images.scores for name, images in self.sources.items()}

    @property
    def p_values(self) -> Mapping[str, Scores]:
        """Return the p-values of the bundle's scores by source; other detectors have none."""
        return {name: images.p_values for name, images in self.sources.items()}
