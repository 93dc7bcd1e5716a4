"""Contents of an evaluation's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.used_images import reused_images
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.evaluation.results import Evaluation, JudgedSources
from nav_monitor_ros.evaluation.summary import accuracy_warning, result_lines
from nav_monitor_ros.evaluation.tables import bound_sentence, text_tables

PICTURES = 24  # misses shown over all sources, and as many false alarms


@dataclass(frozen=True)
class Picture:
    """A wrongly judged image."""

    source: str  # name of its source
    pixels: np.ndarray  # uint8 (H, W, 3) RGB or (H, W)
    predicted: str  # class name
    confidence: float
    p_value: float


@dataclass(frozen=True)
class ReportData:
    """Contents of a report."""

    title: str  # name of the bundle
    lines: tuple[str, ...]  # facts, one sentence each
    inside: str  # name of the in-distribution source
    default: str  # name of the default score
    scores: Mapping[str, Mapping[str, np.ndarray]]
    # source -> score -> float64 (N,), larger is more unusual; the in-distribution source is first
    p_values: Mapping[str, Mapping[str, np.ndarray]]  # likewise; other libraries' scores have none
    areas: Mapping[str, Mapping[str, float]]  # OOD source -> score -> AUROC
    flagged: Mapping[str, Mapping[str, float]]
    # source -> score -> share of its images flagged by the threshold of their class
    thresholds: Mapping[str, tuple[float, float]]
    # score -> p-value thresholds, the lowest and the highest of a class
    tables: tuple[tuple[str, list[str], list[list[str]]], ...]
    # (caption, headings, rows of text); the first column names the row
    missed: tuple[Picture, ...]  # out-of-distribution images that were not flagged
    false_alarms: tuple[Picture, ...]  # in-distribution images that were flagged
    result: tuple[str, ...] = ()  # what the default made of each source, one sentence each
    warning: str = ''  # why the result may be useless, '' if nothing is known
    bound: str = ''  # what is to be expected of the default's budget on so many images


def evaluation_report(
    bundle: Bundle,
    judge: Judge,
    inside: ImageSource,
    outside: Mapping[str, ImageSource],
    evaluation: Evaluation,
    judged: JudgedSources,
) -> ReportData:
    """Return the report of an evaluation.

    Args:
        bundle: The evaluated bundle.
        judge: Its scores, calibrated for the engine in use.
        inside: The in-distribution source.
        outside: The out-of-distribution sources by name.
        evaluation: Result of the evaluation.
        judged: Scores of all images.
    """
    calibration = judge.calibration
    # Pictures are shown as they were judged.
    exif = bundle.preprocess.exif
    inside = inside.oriented(exif)
    outside = {name: source.oriented(exif) for name, source in outside.items()}
    classes = np.unique(np.concatenate([found.predicted for found in judged.sources.values()]))
    lines = [
        f'Network {bundle.network.spec}, {len(bundle.class_names)} classes; monitored layer: '
        f'{bundle.layer}, {next(iter(bundle.scores.values())).width} neurons.',
        f'Default score: {judge.decisive}, made of {", ".join(calibration.fusion_members)}.',
        f'Budget: at most {calibration.alpha:.2%} of in-distribution frames are flagged, with '
        f'{calibration.confidence:.0%} confidence; calibrated on {len(calibration.fused)} images'
        + (
            '.' if calibration.effective_size == len(calibration.fused)
            else f' in groups, equivalent to {calibration.effective_size} independent ones. The '
            'confidence is approximate, because the images of one group are alike.'
        ),
    ]
    warning = reuse_warning(bundle, inside.name, judged)
    if warning:
        lines.append(f'Warning: {warning}.')
    if evaluation.accuracy is not None:
        lines.append(f'Accuracy on {inside.name}: {evaluation.accuracy:.2%}.')
    shares = [max(1, PICTURES // max(1, len(outside)))] * len(outside)
    missed = [
        picture
        for (name, source), share in zip(outside.items(), shares, strict=True)
        for picture in _pictures(judge, judged, name, source, share, flagged=False)
    ]
    return ReportData(
        title=bundle.name,
        lines=tuple(lines),
        inside=inside.name,
        default=judge.decisive,
        scores=judged.scores,
        p_values=judged.p_values,
        areas={
            name: {score: figures.auroc for score, figures in by_score.items()}
            for name, by_score in evaluation.separation.items()
        },
        flagged=_flagged(inside.name, evaluation),
        thresholds={
            name: (float(per_class[classes].min()), float(per_class[classes].max()))
            for name, per_class in calibration.thresholds.items()
        },
        tables=tuple(text_tables(evaluation)),
        missed=tuple(missed),
        false_alarms=tuple(
            _pictures(judge, judged, inside.name, inside, PICTURES, flagged=True)
        ),
        result=tuple(result_lines(evaluation)),
        warning=accuracy_warning(evaluation),
        bound=bound_sentence(evaluation),
    )


def reuse_warning(bundle: Bundle, inside: str, judged: JudgedSources) -> str:
    """Return a sentence on in-distribution images that were used to make the monitor, or ''.

    Args:
        bundle: The evaluated bundle; without checksums of its images the result is ''.
        inside: Name of the in-distribution source.
        judged: Scores and checksums of all images.
    """
    digests = [row.tobytes() for row in judged.sources[inside].digests]
    found = reused_images(bundle.training_images, bundle.calibration_images, digests)
    return found.warning(inside)


def _flagged(inside: str, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return the shares of flagged images by source and score, as in the tables."""
    return {
        inside: {score: found.rate for score, found in evaluation.false_alarms.items()},
        **{
            name: {
                score: figures.detected for score, figures in by_score.items()
                if figures.detected is not None
            }
            for name, by_score in evaluation.separation.items()
        },
    }


def _pictures(
    judge: Judge, judged: JudgedSources, name: str, source: ImageSource, count: int, *,
    flagged: bool,
) -> list[Picture]:
    """Return the most strongly flagged images, or those that were furthest from being flagged."""
    images = judged.sources[name]
    p_values = images.p_values[judge.decisive]
    is_flagged = p_values <= judge.thresholds[images.predicted]
    order = np.argsort(p_values if flagged else -p_values, kind='stable')
    chosen = order[is_flagged[order] == flagged][:count]
    return [
        Picture(
            name,
            source.image(int(index)),
            judge.class_names[int(images.predicted[index])],
            float(images.confidence[index]),
            float(p_values[index]),
        )
        for index in chosen
    ]
