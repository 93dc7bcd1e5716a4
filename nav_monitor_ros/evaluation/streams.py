"""Verdicts played as video: what the evidence makes of them, faster than any camera."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence, make_evidence


def frames_of(
    calibration: Calibration,
    score: str,
    p_values: np.ndarray,
    labels: np.ndarray,
    level: float = DEFAULT_EVIDENCE_LEVEL,
) -> list[FrameEvidence]:
    """Return what images say of a stream.

    Args:
        calibration: Calibration of a bundle.
        score: One that has thresholds.
        p_values: float64 (N,), of that score.
        labels: int64 (N,), the predicted classes.
        level: P-value at or below which a frame is evidence.
    """
    flagged = p_values <= calibration.thresholds[score][labels]
    e_values = calibration.e_values(score, level).e_values(p_values, labels)
    return [
        FrameEvidence(*frame)
        for frame in zip(p_values.tolist(), flagged.tolist(), e_values.tolist(), strict=True)
    ]


def alarms(frames: Iterable[FrameEvidence], rules: EvidenceRules, rate: float) -> int:
    """Return how often the alert rises on a stream.

    Args:
        frames: In their order.
        rules: How they add up.
        rate: Frames a second.
    """
    evidence, count = make_evidence(rules), 0
    elapsed = math.inf
    for frame in frames:
        before = evidence.is_ood
        evidence.update(frame, elapsed)
        elapsed = 1 / rate
        count += evidence.is_ood and not before
    return count


def delay(frames: Sequence[FrameEvidence], rules: EvidenceRules, rate: float) -> float:
    """Return with which frame of a strange stream the alert rises, from 1; infinite if with none.

    The monitor has been watching a camera before, so the first frame counts as one of a stream.
    """
    evidence = make_evidence(rules)
    for number, frame in enumerate(frames, 1):
        evidence.update(frame, 1 / rate)
        if evidence.is_ood:
            return number
    return math.inf
