"""Play verdicts as video through the evidence rules, faster than real time."""

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
    """Return images as a stream of frames for the evidence.

    Args:
        calibration: Calibration of a bundle.
        score: Name of a score with thresholds.
        p_values: float64 (N,), p-values of that score.
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
        frames: Frames, in order.
        rules: Evidence rules.
        rate: Frames per second.
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
    """Return the frame at which the alert rises on an OOD stream, from 1; infinite if never.

    The monitor is assumed to be running already, so the first frame continues a stream.
    """
    evidence = make_evidence(rules)
    for number, frame in enumerate(frames, 1):
        evidence.update(frame, 1 / rate)
        if evidence.is_ood:
            return number
    return math.inf
