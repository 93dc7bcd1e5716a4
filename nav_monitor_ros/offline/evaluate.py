"""Compare a bundle's scores on one in-distribution and several out-of-distribution sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from nav_monitor_ros.decision.calibration import FUSED
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.offline.fit import Progress, run
from nav_monitor_ros.offline.images import ImageSource
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.classifier import Classifier

RECALL = 0.95


@dataclass(frozen=True)
class Separation:
    """How well one score tells one OOD source from the in-distribution one."""

    auroc: float  # probability that an OOD image scores higher than an in-distribution one
    aupr: float  # average precision with OOD as the positive class
    fpr_at_95_ood: float  # in-distribution images flagged where 95 % of the OOD images are
    fpr_at_95_id: float  # OOD images accepted where 95 % of the in-distribution images are
    detected: float  # OOD images flagged at the calibrated threshold


@dataclass(frozen=True)
class FalseAlarms:
    """What the calibrated threshold really yields on the in-distribution source."""

    rate: float
    low: float  # exact 95 % confidence interval (Clopper and Pearson)
    high: float
    budget: float


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation."""

    images: dict[str, int]  # source name -> how many; the in-distribution one is first
    accuracy: float | None  # on the in-distribution source, None without labels
    false_alarms: dict[str, FalseAlarms]  # by score
    separation: dict[str, dict[str, Separation]]  # OOD source -> score -> figures

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def evaluate(
    classifier: Classifier,
    judge: Judge,
    inside: ImageSource,
    outside: Mapping[str, ImageSource],
    *,
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Run all sources through the network and compare the scores.

    Args:
        classifier: The bundle's network.
        judge: The bundle's fitted scores.
        inside: In-distribution images that were used for nothing else.
        outside: Out-of-distribution sources by name.
        progress: Is told how far the work is.
    """
    normal = run(classifier, inside, progress, f'in-distribution ({inside.name})')
    accuracy = None
    if inside.labels is not None:
        accuracy = float((normal.predicted == inside.labels).mean())
    normal_scores, normal_p = _judge_all(judge, normal)
    thresholds = judge.calibration.thresholds
    separation = {}
    for name, source in outside.items():
        strange_scores, strange_p = _judge_all(judge, run(classifier, source, progress, name))
        separation[name] = {
            score: separate(
                normal_scores[score],
                strange_scores[score],
                detected=float((strange_p[score] <= thresholds[score]).mean()),
            )
            for score in normal_scores
        }
    return Evaluation(
        images={inside.name: len(inside), **{name: len(s) for name, s in outside.items()}},
        accuracy=accuracy,
        false_alarms={
            score: _false_alarms(p <= thresholds[score], judge.calibration.alpha)
            for score, p in normal_p.items()
        },
        separation=separation,
    )


def separate(normal: np.ndarray, strange: np.ndarray, *, detected: float) -> Separation:
    """Return how well scores separate.

    Args:
        normal: Scores of in-distribution images, float (N,).
        strange: Scores of out-of-distribution images, float (M,).
        detected: Share of the latter that is flagged at the calibrated threshold.
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


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the tables that a person reads."""
    inside, *_ = evaluation.images
    result = []
    for name, scores in evaluation.separation.items():
        table = Table(
            title=f'{name} ({evaluation.images[name]} images) against '
            f'{inside} ({evaluation.images[inside]})',
            title_justify='left',
        )
        table.add_column('score', no_wrap=True)
        for heading in (
            'AUROC', 'AUPR', 'FPR at 95 % OOD recall', 'FPR at 95 % ID recall', 'detected'
        ):
            table.add_column(heading, justify='right')
        best = max(scores, key=lambda score: scores[score].auroc)
        for score, figures in scores.items():
            table.add_row(
                score,
                *(f'{100 * value:.2f} %' for value in asdict(figures).values()),
                style='bold' if score == best else None,
            )
        result.append(table)
    alarms = Table(title=f'False alarms on {inside}', title_justify='left')
    for heading in ('score', 'measured', '95 % interval', 'budget'):
        alarms.add_column(heading, justify='right' if heading != 'score' else 'left')
    for score, alarm in evaluation.false_alarms.items():
        alarms.add_row(
            score,
            f'{alarm.rate:.2%}',
            f'{alarm.low:.2%} .. {alarm.high:.2%}',
            f'{alarm.budget:.2%}',
        )
    return [*result, alarms]


def _judge_all(
    judge: Judge, activations: Activations
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return scores and p-values of every score and of the fused one."""
    scores = {name: score.score(activations) for name, score in judge.scores.items()}
    p_values = judge.calibration.p_values(scores)
    scores[FUSED] = judge.calibration.statistic(scores)
    return scores, p_values


def _false_alarms(flagged: np.ndarray, budget: float) -> FalseAlarms:
    interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(0.95, 'exact')
    return FalseAlarms(float(flagged.mean()), float(interval.low), float(interval.high), budget)
