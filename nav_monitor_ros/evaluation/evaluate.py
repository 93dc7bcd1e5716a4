"""Compare a bundle's scores on one in-distribution and several out-of-distribution sources."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import binomtest, chi2
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from nav_monitor_ros.data.batches import Progress, run
from nav_monitor_ros.data.image_source import ImageSource, without
from nav_monitor_ros.decision.calibration import FUSED
from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.pytorch_ood_detectors import PREFIX, Peer, fit_peers
from nav_monitor_ros.evaluation.scored_images import JudgedImages, judge_images
from nav_monitor_ros.evaluation.streams import alarms, delay, frames_of
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.pattern import Pattern
from nav_monitor_ros.scores.registry import SCORES

RECALL = 0.95
GAMMAS = (0, 1, 2, 3)  # distances at which the out-of-pattern table is made
TIMED = 300  # frames judged alone for the cost
STREAMS = 200  # places in an OOD source from which a stream is played
STREAM_FRAMES = 90  # after which a stream counts as undetected

_log = logging.getLogger(__name__)

Scores = Mapping[str, np.ndarray]  # score -> float64 (N,)


@dataclass(frozen=True)
class Separation:
    """How well one score tells one OOD source from the in-distribution one."""

    auroc: float  # probability that an OOD image scores higher than an in-distribution one
    aupr: float  # average precision with OOD as the positive class
    fpr_at_95_ood: float  # in-distribution images flagged where 95 % of the OOD images are
    fpr_at_95_id: float  # OOD images accepted where 95 % of the in-distribution images are
    detected: float | None  # OOD images flagged at the calibrated threshold; None without one


@dataclass(frozen=True)
class FalseAlarms:
    """What the calibrated threshold really yields on the in-distribution source."""

    rate: float
    low: float  # exact 95 % confidence interval (Clopper and Pearson)
    high: float
    budget: float


@dataclass(frozen=True)
class Coverage:
    """How many misclassified images are among those that a monitor objects to."""

    images: int
    flagged: int
    misclassified: int
    misclassified_flagged: int


@dataclass(frozen=True)
class Stream:
    """What the node's default rules of evidence make of a source played as video."""

    false_alarms_per_hour: float  # on the in-distribution source, in its order
    at_most_per_hour: float  # exact upper 95 % bound, if alarms are independent (Garwood)
    hours: float  # of the source at that rate
    frames_to_alert: dict[str, float | None]  # OOD source -> median; None if most never alert
    frames_to_alert_p95: dict[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation."""

    images: dict[str, int]  # source name -> how many; the in-distribution one is first
    accuracy: float | None  # on the in-distribution source, None without labels
    false_alarms: dict[str, FalseAlarms]  # by score
    separation: dict[str, dict[str, Separation]]  # OOD source -> score -> figures
    coverage: dict[str, Coverage]  # by score, at its threshold; empty without labels
    out_of_pattern: dict[int, Coverage]  # by gamma, of the score ``pattern``; empty without labels
    out_of_pattern_of_class: dict[str, dict[int, Coverage]]  # the same of images predicted as each
    streams: dict[str, Stream]  # by score
    microseconds: dict[str, float]  # by score, median for one frame given its activations
    fused: tuple[str, ...]  # members of the fused score

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """What was made of every image, for whoever wants to look closer."""

    sources: Mapping[str, JudgedImages]  # the in-distribution one first

    @property
    def scores(self) -> Mapping[str, Scores]:
        """Return the scores by source."""
        return {name: images.scores for name, images in self.sources.items()}

    @property
    def p_values(self) -> Mapping[str, Scores]:
        """Return the p-values of the bundle's scores by source; other detectors have none."""
        return {name: images.p_values for name, images in self.sources.items()}


def evaluate(
    classifier: RunningNetwork,
    judge: Judge,
    inside: ImageSource,
    outside: Mapping[str, ImageSource],
    *,
    peers_training: ImageSource | None = None,
    rate: float = 30.0,
    workers: int | None = None,
    elsewhere: Callable[[str, ImageSource], JudgedImages] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Evaluation, Judged]:
    """Run all sources through the network and compare the scores.

    Of an image a few numbers are kept, not its activations.

    Args:
        classifier: The bundle's network, with all that the scores need.
        judge: The bundle's fitted scores.
        inside: In-distribution images that were used for nothing else.
        outside: Out-of-distribution sources by name.
        peers_training: Labelled training images for the detectors of pytorch-ood, which are then
            compared too; images that lie in ``inside`` as well are left out of them.
        rate: Frames a second, where sources are played as video.
        workers: Threads that read and decode images; None for one fewer than there are cores.
        elsewhere: Judges a source on other machines, given what the work is called; without peers.
        progress: Is told how far the work is.

    Raises:
        NavMonitorError: pytorch-ood is asked for and missing, or its training images have no
            labels; two sources have one name.
    """
    if inside.name in outside:
        raise NavMonitorError(
            f"an out-of-distribution source is called '{inside.name}', as the in-distribution one "
            'is; choose another name'
        )
    exif = classifier.preprocess.exif
    inside = inside.oriented(exif)
    outside = {name: source.oriented(exif) for name, source in outside.items()}
    # A source's own numbers of the classes are not always the network's.
    labels = inside.numbered_for(judge.class_names).labels
    peers: Sequence[Peer] = ()
    if peers_training is not None:
        peers = _fitted_peers(classifier, judge, peers_training, inside, progress)

    def judged_images(name: str, source: ImageSource) -> JudgedImages:
        if elsewhere is not None and not peers:
            return elsewhere(name, source)
        return judge_images(
            classifier, judge, source, progress, name, peers=peers, workers=workers
        )

    judged = Judged({
        name: judged_images(name, source)
        for name, source in {inside.name: inside, **outside}.items()
    })
    timed = run(classifier, inside.subset(np.arange(min(TIMED, len(inside)))), workers=workers)
    costs = _costs(judge, peers, timed)
    return _figures(judge, inside.name, labels, judged, costs, rate), judged


def separate(
    normal: np.ndarray, strange: np.ndarray, *, detected: float | None = None
) -> Separation:
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


def _fitted_peers(
    classifier: RunningNetwork, judge: Judge, training: ImageSource, inside: ImageSource,
    progress: Progress,
) -> list[Peer]:
    numbered = training.oriented(classifier.preprocess.exif).numbered_for(judge.class_names)
    if numbered.labels is None:
        raise NavMonitorError(f'--peers {training.name}: the images need labels')
    kept = without(numbered, inside)
    if kept.labels is None or not len(kept):
        raise NavMonitorError(f'--peers {training.name}: all of its images lie in --inside too')
    if len(kept) < len(training):
        _log.warning(
            '%d of %d images of --peers lie in --inside too and are left out',
            len(training) - len(kept), len(training),
        )
    batch = run(classifier, kept, progress, 'training images of the peers')
    accuracy = float((batch.predicted == kept.labels).mean())
    if accuracy < 0.5:
        _log.warning(
            'the network is right on %.1f %% of --peers: are these its training images?',
            100 * accuracy,
        )
    progress('fitting the peers', 0, 1)
    return fit_peers(batch, kept.labels, classifier.head)


def _figures(
    judge: Judge,
    inside: str,
    labels: np.ndarray | None,
    judged: Judged,
    costs: dict[str, float],
    rate: float,
) -> Evaluation:
    normal = judged.sources[inside]
    flagged = {name: _flags(judge, judged, name) for name in judged.sources}
    names = list(normal.scores)
    outside = [name for name in judged.sources if name != inside]
    wrong = None if labels is None else normal.predicted != labels
    return Evaluation(
        images={name: len(images) for name, images in judged.sources.items()},
        accuracy=None if wrong is None else float(1 - wrong.mean()),
        false_alarms={
            score: _false_alarms(flags, judge.calibration.alpha)
            for score, flags in flagged[inside].items()
        },
        separation={
            name: {
                score: separate(
                    normal.scores[score],
                    judged.sources[name].scores[score],
                    detected=float(flagged[name][score].mean()) if score in flagged[name] else None,
                )
                for score in names
            }
            for name in outside
        },
        coverage={} if wrong is None else {
            score: _coverage(flags, wrong) for score, flags in flagged[inside].items()
        },
        out_of_pattern={} if wrong is None else out_of_pattern(judge, normal.scores, wrong),
        out_of_pattern_of_class={} if wrong is None else {
            judge.class_names[label]: out_of_pattern(
                judge, {name: values[rows] for name, values in normal.scores.items()}, wrong[rows]
            )
            for label in np.unique(normal.predicted)
            for rows in [np.flatnonzero(normal.predicted == label)]
        },
        streams={
            score: _stream(
                _frames(judge, judged, inside, score),
                {name: _frames(judge, judged, name, score) for name in outside},
                rate,
            )
            for score in flagged[inside]
        },
        microseconds=costs,
        fused=judge.calibration.fusion_members,
    )


def _frames(judge: Judge, judged: Judged, source: str, score: str) -> list[FrameEvidence]:
    """Return what the images of a source say of a stream, by one score."""
    images = judged.sources[source]
    return frames_of(judge.calibration, score, images.p_values[score], images.predicted)


def _flags(judge: Judge, judged: Judged, source: str) -> dict[str, np.ndarray]:
    """Return for each of the bundle's scores which images are flagged, bool (N,)."""
    images = judged.sources[source]
    return {
        score: p_values <= judge.calibration.thresholds[score][images.predicted]
        for score, p_values in images.p_values.items()
        if score in judge.calibration.thresholds
    }


def out_of_pattern(judge: Judge, scores: Scores, wrong: np.ndarray) -> dict[int, Coverage]:
    """Return the two columns of Cheng et al. (DATE 2019), by gamma.

    Args:
        judge: With the score ``pattern``; without it the result is empty.
        scores: Of N images.
        wrong: bool (N,), which of them are misclassified.
    """
    named = [(name, s) for name, s in judge.scores.items() if isinstance(s, Pattern)]
    if not named:
        return {}
    name, pattern = named[0]
    distances = scores[name]
    gammas = sorted({*GAMMAS, pattern.options.gamma})
    return {gamma: _coverage(distances > gamma, wrong) for gamma in gammas}


def _coverage(flagged: np.ndarray, wrong: np.ndarray) -> Coverage:
    return Coverage(
        len(flagged), int(flagged.sum()), int(wrong.sum()), int((flagged & wrong).sum())
    )


def _false_alarms(flagged: np.ndarray, budget: float) -> FalseAlarms:
    interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(0.95, 'exact')
    return FalseAlarms(float(flagged.mean()), float(interval.low), float(interval.high), budget)


def _stream(
    normal: Sequence[FrameEvidence], strange: Mapping[str, Sequence[FrameEvidence]], rate: float
) -> Stream:
    """Play frames as video: the in-distribution ones in their order, others from many places."""
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
            # A delay that was reached, not one between two of them: infinity is among them.
            name: _finite(np.quantile(d, 0.95, method='higher')) for name, d in delays.items()
        },
    )


def _delays(frames: Sequence[FrameEvidence], rules: EvidenceRules, rate: float) -> np.ndarray:
    starts = np.unique(np.linspace(0, len(frames) - 1, STREAMS).astype(int))
    # The source begins again at its end, so that all streams are equally long.
    return np.array([
        delay([frames[(start + n) % len(frames)] for n in range(STREAM_FRAMES)], rules, rate)
        for start in starts
    ])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _costs(judge: Judge, peers: Sequence[Peer], normal: Activations) -> dict[str, float]:
    """Return the median time of each score for one frame, in microseconds.

    The fused score's is that of its members and of their fusion, each a frame alone.
    """
    frames = [normal[i : i + 1] for i in range(len(normal))]
    makers: dict[str, Callable[[Activations], object]] = {
        **{name: score.score_frame for name, score in judge.scores.items()},
        **{peer.name: peer.score for peer in peers},
    }
    costs = {name: _median_time(maker, frames) for name, maker in makers.items()}
    if set(judge.calibration.fusion_members) <= set(judge.scores):
        members = {name: judge.scores[name] for name in judge.calibration.fusion_members}

        def fused(frame: Activations) -> None:
            judge.calibration.fused_scores(
                {name: np.array([score.score_frame(frame)]) for name, score in members.items()}
            )

        costs[FUSED] = _median_time(fused, frames)
    return costs


def _median_time(function: Callable[[Activations], object], frames: Sequence[Activations]) -> float:
    times = []
    for frame in frames:
        start = time.perf_counter()
        function(frame)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e6)


def text_tables(evaluation: Evaluation) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return what a person reads: (caption, headings, rows of text), names in the first column."""
    inside, *outside = evaluation.images
    scores = list(next(iter(evaluation.separation.values()))) if outside else []
    # Over all sources: the one number by which scores are compared.
    mean = {
        score: np.mean([evaluation.separation[name][score].auroc for name in outside])
        for score in scores
    }
    order = sorted(scores, key=lambda score: -mean[score])
    tables = []
    if len(outside) > 1:
        tables.append((
            f'All {len(outside)} out-of-distribution sources. FPR95: share of in-distribution '
            'images flagged where 95 % of the others are' + _windowed_note(scores),
            ['score', 'mean AUROC', 'mean FPR95', 'worst AUROC', 'us a frame'],
            [
                [
                    score,
                    _percent(mean[score]),
                    _percent(np.mean(
                        [evaluation.separation[n][score].fpr_at_95_ood for n in outside]
                    )),
                    _percent(min(evaluation.separation[n][score].auroc for n in outside)),
                    f'{evaluation.microseconds[score]:.0f}',
                ]
                for score in order
            ],
        ))
    for name in outside:
        tables.append((
            f'{name} ({evaluation.images[name]} images) against '
            f'{inside} ({evaluation.images[inside]})',
            ['score', 'AUROC', 'AUPR', 'FPR95', 'FPR95, ID', 'detected'],
            [
                [score, *map(_percent, asdict(evaluation.separation[name][score]).values())]
                for score in order
            ],
        ))
    tables.append((
        f'False alarms on {inside}, each frame alone',
        ['score', 'measured', '95 % interval', 'budget'],
        [
            [score, _percent(a.rate), f'{_percent(a.low)} .. {_percent(a.high)}',
             _percent(a.budget)]
            for score, a in evaluation.false_alarms.items()
        ],
    ))
    if evaluation.coverage:
        rows: list[tuple[str, Coverage]] = [
            *((f'pattern, gamma {g}', c) for g, c in evaluation.out_of_pattern.items()),
            *evaluation.coverage.items(),
        ]
        wrong = rows[0][1].misclassified
        tables.append((
            f'Mistakes on {inside}: {wrong} of {evaluation.images[inside]} images are '
            'misclassified. Flagged by patterns farther than gamma, and by every score at its '
            'calibrated threshold',
            ['monitor', 'flagged', 'share', 'mistakes', 'of the flagged', 'of all mistakes'],
            [[name, *_coverage_cells(coverage)] for name, coverage in rows],
        ))
    streams = evaluation.streams
    if outside and streams:
        hours = next(iter(streams.values())).hours
        tables.append((
            f'Played as video: false alarms an hour on {inside} ({hours * 60:.1f} min of it) and '
            'their 95 % upper bound; median frames to the alert',
            ['score', 'false alarms', 'at most', *outside],
            [
                [
                    score, f'{s.false_alarms_per_hour:.0f}', f'{s.at_most_per_hour:.0f}',
                    *(_delay(s.frames_to_alert[name]) for name in outside),
                ]
                for score, s in streams.items()
            ],
        ))
    return tables


def tables(evaluation: Evaluation) -> list[Table]:
    """Return ``text_tables`` for the terminal; our default is bold, other libraries' are dim."""
    result = []
    for caption, headings, rows in text_tables(evaluation):
        table = Table(title=caption, title_justify='left')
        for heading in headings:
            first = heading == headings[0]
            table.add_column(
                heading, justify='left' if first else 'right', no_wrap=first, overflow='fold'
            )
        for row in rows:
            fused = row[0].split(',')[0] == FUSED
            style = 'bold' if fused else 'dim' if row[0].startswith(PREFIX) else None
            table.add_row(*row, style=style)
        result.append(table)
    return result


def _windowed_note(scores: Sequence[str]) -> str:
    """Say which scores have seen more than the image that they are compared on."""
    windowed = [name for name in scores if name in SCORES and SCORES[name].windowed]
    return f'. Looking at several frames: {", ".join(windowed)}' if windowed else ''


def _coverage_cells(coverage: Coverage) -> list[str]:
    found = coverage.misclassified_flagged
    return [
        str(coverage.flagged),
        _percent(coverage.flagged / coverage.images),
        str(found),
        _percent(found / coverage.flagged if coverage.flagged else None),
        _percent(found / coverage.misclassified if coverage.misclassified else None),
    ]


def _percent(share: float | np.floating | None) -> str:
    return '' if share is None else f'{100 * share:.2f} %'


def _delay(frames: float | None) -> str:
    return 'never' if frames is None else f'{frames:g}'
