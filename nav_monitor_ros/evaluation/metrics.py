"""Metrics of an evaluation from scores and verdicts: separation, false alarms, coverage, delays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import binomtest, chi2, rankdata
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.evaluation.results import (
    Coverage,
    FalseAlarms,
    MeanSeparation,
    Scores,
    Separation,
    Stream,
)
from nav_monitor_ros.evaluation.streams import AlarmCount, ImageEvidence, StreamPlan, delay
from nav_monitor_ros.scores.pattern import Pattern

RECALL = 0.95
GAMMAS = (0, 1, 2, 3)  # distances in the out-of-pattern table
STREAMS = 200  # start positions of streams in an OOD source


def separate(
    normal: np.ndarray, strange: np.ndarray, *, detected: float | None = None
) -> Separation:
    """Return metrics of the separation by scores.

    Args:
        normal: Scores of in-distribution images, float (N,), may be infinite.
        strange: Scores of out-of-distribution images, float (M,), may be infinite.
        detected: Share of the latter flagged at the calibrated threshold.
    """
    truth = np.concatenate([np.zeros(len(normal)), np.ones(len(strange))])
    # Ranks give the same metrics, and scikit-learn rejects infinite scores.
    scores = rankdata(np.concatenate([normal, strange]), method='dense')
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    accepted, kept, _ = roc_curve(1 - truth, -scores, drop_intermediate=False)
    return Separation(
        auroc=float(roc_auc_score(truth, scores)),
        aupr=float(average_precision_score(truth, scores)),
        fpr_at_95_recall=float(fpr[np.searchsorted(tpr, RECALL)]),
        ood_missed_at_95_id_kept=float(accepted[np.searchsorted(kept, RECALL)]),
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


def chance_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of labels, int (N,), that predictions in random order would match."""
    classes, places = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    places = places.reshape(-1)
    n = len(labels)
    counts = (np.bincount(part, minlength=len(classes)) for part in (places[:n], places[n:]))
    return float(np.prod([count / n for count in counts], axis=0).sum())


def coverage_of(flagged: np.ndarray, wrong: np.ndarray) -> Coverage:
    """Return how many misclassified images, bool (N,), are flagged, bool (N,)."""
    return Coverage(
        len(flagged), int(flagged.sum()), int(wrong.sum()), int((flagged & wrong).sum())
    )


def false_alarms_of(
    flagged: np.ndarray, calibration: Calibration, score: str, expected_within: float | None = None
) -> FalseAlarms:
    """Return the share of in-distribution images that are flagged, bool (N,), and its interval.

    Args:
        flagged: Which images are flagged, bool (N,).
        calibration: Calibration of the bundle.
        score: The score that flags them.
        expected_within: Share of the splits in which it should hold on N images, if known.
    """
    interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(0.95, 'exact')
    return FalseAlarms(
        float(flagged.mean()), float(interval.low), float(interval.high), calibration.alpha,
        calibration.confidence, len(calibration.p_values_of(score)), expected_within,
    )


def mean_separations(
    separation: Mapping[str, Mapping[str, Separation]]
) -> dict[str, MeanSeparation]:
    """Return the means over all OOD sources by score.

    Args:
        separation: OOD source -> score -> metrics; every source has the same scores.
    """
    sources = list(separation.values())
    means = {}
    for score in sources[0] if sources else ():
        figures = [by_score[score] for by_score in sources]
        detected = [one.detected for one in figures if one.detected is not None]
        means[score] = MeanSeparation(
            auroc=float(np.mean([one.auroc for one in figures])),
            aupr=float(np.mean([one.aupr for one in figures])),
            fpr_at_95_recall=float(np.mean([one.fpr_at_95_recall for one in figures])),
            ood_missed_at_95_id_kept=float(
                np.mean([one.ood_missed_at_95_id_kept for one in figures])
            ),
            detected=float(np.mean(detected)) if len(detected) == len(figures) else None,
        )
    return means


def streams_of(
    evidence: Callable[[str, str], ImageEvidence],
    scores: Sequence[str],
    inside: str,
    outside: Sequence[str],
    plan: StreamPlan,
    *,
    groups: np.ndarray | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Stream]:
    """Play sources as video by each score.

    Args:
        evidence: Returns the evidence of a source's images, given the score and the source.
        scores: Names of the scores.
        inside: Name of the in-distribution source.
        outside: Names of the OOD sources; each is played from many starts.
        plan: Rate and duration of the streams.
        groups: (N,), groups of the in-distribution images; None if they are independent.
        progress: Called with the stage, the number of frames or streams done and the total.
    """
    rules = EvidenceRules()
    normal = {score: evidence(score, inside) for score in scores}
    counts = {score: AlarmCount(images, rules, plan.rate) for score, images in normal.items()}
    images = len(normal[scores[0]])
    total, done = plan.frames(images), 0
    for part in plan.indices(images, groups):
        for count in counts.values():
            progress('in-distribution stream', done, total)
            count.add(part)
        done += len(part)
    streams, played = {}, 0

    def begin() -> None:
        progress('out-of-distribution streams', played, len(counts) * len(outside))

    for score, count in counts.items():
        delays = {}
        for name in outside:
            delays[name] = _delays(evidence(score, name).frames(), rules, plan, begin)
            played += 1
        streams[score] = _stream(count, delays, plan)
    return streams


def _stream(count: AlarmCount, delays: Mapping[str, np.ndarray], plan: StreamPlan) -> Stream:
    hours = count.frames / plan.frames_per_hour
    return Stream(
        false_alarms=count.alarms,
        false_alarms_per_hour=count.alarms / hours,
        at_most_per_hour=float(chi2.ppf(0.95, 2 * (count.alarms + 1)) / 2 / hours),
        hours=hours,
        share_alerted=count.alerted / count.frames,
        frames_to_alert={name: _finite(np.median(d)) for name, d in delays.items()},
        frames_to_alert_p95={
            # An observed delay, not an interpolated one: some are infinite.
            name: _finite(np.quantile(d, 0.95, method='higher')) for name, d in delays.items()
        },
        never_alerted={name: float(np.isinf(d).mean()) for name, d in delays.items()},
    )


def _delays(
    frames: Sequence[FrameEvidence], rules: EvidenceRules, plan: StreamPlan,
    begin: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the frames until the alert from many starts; ``begin`` is called before each."""
    starts = np.unique(np.linspace(0, len(frames) - 1, STREAMS).astype(int))
    found = []
    for start in starts.tolist():
        begin()
        # The source is repeated, so that all streams have the same length.
        stream = (frames[(start + n) % len(frames)] for n in range(plan.ood_frames))
        found.append(delay(stream, rules, plan.rate))
    return np.array(found)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
