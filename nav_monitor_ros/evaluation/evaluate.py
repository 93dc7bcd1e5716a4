"""Compare a bundle's scores on one in-distribution and several out-of-distribution sources."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nav_monitor_ros.data.batches import Progress, run
from nav_monitor_ros.data.image_source import ImageSource, without
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.evidence_kinds import flagged_kinds
from nav_monitor_ros.evaluation.metrics import (
    chance_accuracy,
    coverage_of,
    false_alarms_of,
    mean_separations,
    out_of_pattern,
    separate,
    streams_of,
)
from nav_monitor_ros.evaluation.pytorch_ood_detectors import Peer, fit_peers
from nav_monitor_ros.evaluation.results import Evaluation, JudgedSources
from nav_monitor_ros.evaluation.scored_images import JudgedImages, judge_images
from nav_monitor_ros.evaluation.split_expectation import share_of_splits_within, split_cells
from nav_monitor_ros.evaluation.streams import ImageEvidence, StreamPlan, evidence_of
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.canonical_form import own_form
from nav_monitor_ros.perception.network.running_network import RunningNetwork

if TYPE_CHECKING:
    import torch

TIMED = 300  # frames judged individually to measure the cost

_log = logging.getLogger(__name__)


def evaluate(
    classifier: RunningNetwork,
    judge: Judge,
    inside: ImageSource,
    outside: Mapping[str, ImageSource],
    *,
    peers_training: ImageSource | None = None,
    streams: StreamPlan | None = None,
    workers: int | None = None,
    remote: Callable[[str, ImageSource], JudgedImages] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Evaluation, JudgedSources]:
    """Run all sources through the network and compare the scores.

    Only a few numbers are kept per image, not its activations.

    Args:
        classifier: The bundle's network, set up to yield what the scores need.
        judge: The bundle's fitted scores.
        inside: In-distribution images not used before.
        outside: Out-of-distribution sources by name.
        peers_training: Labelled training images for the detectors of pytorch-ood, which are then
            also compared; images that are also in ``inside`` are left out.
        streams: How sources are played as video; None for the defaults.
        workers: Threads that read and decode images; None for one fewer than there are cores.
        remote: Judges a source on other machines, given the name of the stage; without peers.
        progress: Called with the stage, the number of images done and the total.

    Raises:
        NavMonitorError: pytorch-ood is requested but missing, its training images have no labels,
            or two sources have the same name.
    """
    if inside.name in outside:
        raise NavMonitorError(
            "an out-of-distribution source has the same name as the in-distribution one, "
            f"'{inside.name}'; choose another name"
        )
    exif = classifier.preprocess.exif
    inside = inside.oriented(exif)
    outside = {name: source.oriented(exif) for name, source in outside.items()}
    # A source's own class numbers may differ from the network's.
    labels = inside.numbered_for(judge.class_names).labels
    peers: Sequence[Peer] = ()
    if peers_training is not None:
        peers = _fitted_peers(classifier, judge, peers_training, inside, progress)

    def judged_images(name: str, source: ImageSource) -> JudgedImages:
        if remote is not None and not peers:
            return remote(name, source)
        return judge_images(
            classifier, judge, source, progress, name, peers=peers, workers=workers
        )

    judged = JudgedSources({
        name: judged_images(name, source)
        for name, source in {inside.name: inside, **outside}.items()
    })
    timed = run(classifier, inside.subset(np.arange(min(TIMED, len(inside)))), workers=workers)
    costs = _costs(judge, peers, timed)
    return _figures(judge, inside, labels, judged, costs, streams or StreamPlan(), progress), judged


def _fitted_peers(
    classifier: RunningNetwork, judge: Judge, training: ImageSource, inside: ImageSource,
    progress: Progress,
) -> list[Peer]:
    numbered = training.oriented(classifier.preprocess.exif).numbered_for(judge.class_names)
    if numbered.labels is None:
        raise NavMonitorError(f'--peers {training.name}: the images need labels')
    kept = without(numbered, inside)
    if kept.labels is None or not len(kept):
        raise NavMonitorError(f'--peers {training.name}: all of its images are also in --inside')
    if len(kept) < len(training):
        _log.warning(
            '%d of %d images of --peers are also in --inside and are left out',
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
    # They are run on the network as it is, as their users would.
    unit = classifier.unit
    return [
        replace(peer, predict=_on_own_form(peer.predict, unit))
        for peer in fit_peers(own_form(batch, unit), kept.labels, classifier.own_head)
    ]


def _on_own_form(
    predict: Callable[[Activations], torch.Tensor], unit: float
) -> Callable[[Activations], torch.Tensor]:
    return lambda batch: predict(own_form(batch, unit))


def _figures(
    judge: Judge,
    source: ImageSource,
    labels: np.ndarray | None,
    judged: JudgedSources,
    costs: dict[str, float],
    plan: StreamPlan,
    progress: Progress,
) -> Evaluation:
    inside = source.name
    normal = judged.sources[inside]
    flagged = {name: _flags(judge, judged, name) for name in judged.sources}
    names = list(normal.scores)
    outside = [name for name in judged.sources if name != inside]
    wrong = None if labels is None else normal.predicted != labels
    grouped = _grouped(judge, source)
    separation = {
        name: {
            score: separate(
                normal.scores[score],
                judged.sources[name].scores[score],
                detected=float(flagged[name][score].mean()) if score in flagged[name] else None,
            )
            for score in names
        }
        for name in outside
    }
    return Evaluation(
        images={name: len(images) for name, images in judged.sources.items()},
        accuracy=None if wrong is None else float(1 - wrong.mean()),
        chance=None if labels is None else chance_accuracy(labels, normal.predicted),
        false_alarms={
            score: false_alarms_of(
                flags, judge.calibration, score,
                None if grouped else _expected_within(judge, score, normal.predicted),
            )
            for score, flags in flagged[inside].items()
        },
        grouped=grouped,
        separation=separation,
        means=mean_separations(separation),
        evidence_kinds={
            name: flagged_kinds(judge, images) for name, images in judged.sources.items()
        },
        coverage={} if wrong is None else {
            score: coverage_of(flags, wrong) for score, flags in flagged[inside].items()
        },
        out_of_pattern={} if wrong is None else out_of_pattern(judge, normal.scores, wrong),
        out_of_pattern_of_class={} if wrong is None else {
            _distinct_name(judge.class_names, label): out_of_pattern(
                judge, {name: values[rows] for name, values in normal.scores.items()}, wrong[rows]
            )
            for label in np.unique(normal.predicted)
            for rows in [np.flatnonzero(normal.predicted == label)]
        },
        streams=streams_of(
            lambda score, name: _evidence(judge, judged, name, score),
            list(flagged[inside]), inside, outside, plan, groups=source.groups, progress=progress,
        ),
        stream_seed=None if plan.hours is None else plan.seed,
        ood_seconds=plan.ood_seconds,
        microseconds=costs,
        fused=judge.calibration.fusion_members,
    )


def _grouped(judge: Judge, source: ImageSource) -> str:
    """Return which images come in groups, whose images are not exchangeable; '' if none do."""
    grouped = []
    if judge.calibration.effective_size < len(judge.calibration.fused):
        grouped.append('calibration')
    if source.groups is not None and len(np.unique(source.groups)) < len(source):
        grouped.append('in-distribution')
    return ' and the '.join(grouped)


def _expected_within(judge: Judge, score: str, predicted: np.ndarray) -> float | None:
    """Return the share of splits in which the budget should hold on so many images.

    None for scores over several frames, whose values are not exchangeable.
    """
    calibration = judge.calibration
    if score in judge.scores and judge.scores[score].windowed:
        return None
    cells = split_cells(
        calibration.p_values_of(score), calibration.thresholds[score], predicted
    )
    return share_of_splits_within(cells, calibration.alpha)


def _distinct_name(class_names: Sequence[str], label: int) -> str:
    """Return a class's name, with its number if several classes have that name."""
    name = class_names[label]
    return name if class_names.count(name) == 1 else f'{name} ({label})'


def _evidence(judge: Judge, judged: JudgedSources, source: str, score: str) -> ImageEvidence:
    """Return the evidence of a source's images by one score."""
    images = judged.sources[source]
    return evidence_of(judge.calibration, score, images.p_values[score], images.predicted)


def _flags(judge: Judge, judged: JudgedSources, source: str) -> dict[str, np.ndarray]:
    """Return for each of the bundle's scores which images are flagged, bool (N,)."""
    images = judged.sources[source]
    return {
        score: p_values <= judge.calibration.thresholds[score][images.predicted]
        for score, p_values in images.p_values.items()
        if score in judge.calibration.thresholds
    }


def _costs(judge: Judge, peers: Sequence[Peer], normal: Activations) -> dict[str, float]:
    """Return the median time of each score for one frame, in microseconds.

    The fused score's time covers its members and their fusion, one frame at a time.
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


