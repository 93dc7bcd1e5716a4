"""Metrics of an evaluation from scores and verdicts: separation, false alarms, coverage, delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binomtest, chi2
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.evaluation.results import Coverage, FalseAlarms, Scores, Separation, Stream
from nav_monitor_ros.evaluation.streams import alarms, delay
from nav_monitor_ros.scores.pattern import Pattern

RECALL = 0.95
GAMMAS = (0, 1, 2, 3)  # distances in the out-of-pattern table
STREAMS = 200  # start positions of streams in an OOD source
STREAM_FRAMES = 90  # frames after which a stream counts as undetected


def separate(
    normal: np.ndarray, strange: np.ndarray, *, detected: float | None = None
) -> Separation:
    """Return metrics of the separation by scores.

    Args:
        normal: Scores of in-distribution images, float (N,).
        strange: Scores of out-of-distribution images, float (M,).
        detected: Share of the latter flagged at the calibrated threshold.
    """
    truth = np.concatenate([np.zeros(len(normal)), np.ones(len(strange))])
    scores = np.concatenate([normal, strange])
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    accepted, kept, _ = roc_curve(1 - truth, -scores, drop_intermediate=False)
    return Separation(
        auroc=float(roc_auc_score(truth, scores)),
        aupr=float(average_precision_score(truth, scores)),
        fpr_at_95_ood=float(fpr[np.searchsorted(tpr, RECALL)]),
        fpr_at_95_id=float(accepted[np.searchsorted(kept, RECALL)]),
        detected=detected,
    )


def out_of_pattern(judge: Judge, scores: Scores, wrong: np.ndarray) -> dict[int, Coverage]:
    """Return the two columns of Cheng et al. (DATE 2019), by gamma.

    Args:
        judge: Judge with the score ``pattern``; without it the result is empty.
        scores: Scores of N images.
        wrong: bool (N,), which of them are misclassified.
    """
    named = [(name, s) for name, s in judge.scores.items() if isinstance(s, Pattern)]
    if not named:
        return {}
    name, pattern = named[0]
    distances = scores[name]
    gammas = sorted({*GAMMAS, pattern.options.gamma})
    return {gamma: coverage_of(distances > gamma, wrong) for gamma in gammas}


def coverage_of(flagged: np.ndarray, wrong: np.ndarray) -> Coverage:
    """Return how many misclassified images, bool (N,), are flagged, bool (N,)."""
    return Coverage(
        len(flagged), int(flagged.sum()), int(wrong.sum()), int((flagged & wrong).sum())
    )


def false_alarms_of(flagged: np.ndarray, budget: float) -> FalseAlarms:
    """Return the share of in-distribution images that are flagged, bool (N,), and its interval."""
    interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(0.95, 'exact')
    return FalseAlarms(float(flagged.mean()), float(interval.low), float(interval.high), budget)


def stream_of(
    normal: Sequence[FrameEvidence], strange: Mapping[str, Sequence[FrameEvidence]], rate: float
) -> Stream:
    """Play frames as video: in-distribution ones in order, others from many starts."""
    rules = EvidenceRules()
    count = alarms(normal, rules, rate)
    hours = len(normal) / rate / 3600
    delays = {name: _delays(frames, rules, rate) for name, frames in strange.items()}
    return Stream(
        false_alarms_per_hour=count / hours,
        at_most_per_hour=float(chi2.ppf(0.95, 2 * (count + 1)) / 2 / hours),
        hours=hours,
        frames_to_alert={name: _finite(np.median(d)) for name, d in delays.items()},
        frames_to_alert_p95={
            # An observed delay, not an interpolated one: some are infinite.
            name: _finite(np.quantile(d, 0.95, method='higher')) for name, d in delays.items()
        },
    )


def _delays(frames: Sequence[FrameEvidence], rules: EvidenceRules, rate: float) -> np.ndarray:
    starts = np.unique(np.linspace(0, len(frames) - 1, STREAMS).astype(int))
    # The source is repeated, so that all streams have the same length.
    return np.array([
        delay([frames[(start + n) % len(frames)] for n in range(STREAM_FRAMES)], rules, rate)
        for start in starts
    ])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
