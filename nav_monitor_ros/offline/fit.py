"""Fit a monitor to a network: images in, a bundle out."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from nav_monitor_ros import __version__
from nav_monitor_ros.bundle import Bundle, equip
from nav_monitor_ros.decision.calibration import calibrate
from nav_monitor_ros.decision.conformal import check_budget, images_needed
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.offline.images import ImageSource, split, without
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.classifier import Classifier
from nav_monitor_ros.perception.layers import early_layers
from nav_monitor_ros.perception.network import NetworkSpec
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.channel_means import ChannelMeans
from nav_monitor_ros.scores.registry import SCORES, make_score

BATCH = 64
SAMPLE = 4096  # images that the scores look at before the stream
MARGINAL_SHARE = 1 / 3  # of the calibration images, by which scores are fused; see calibrate
RANGE_SAMPLE = 64  # images from which the layers' display ranges are taken

# Chosen by benchmarks/choose_fusion.py from in-distribution images alone; docs/judging.md.
FUSED_MEMBERS = ('pattern', 'relative_mahalanobis', 'vim', 'channel_means', 'energy')

Progress = Callable[[str, int, int], None]  # (what is being done, images done, images in all)


@dataclass(frozen=True)
class FitOptions:
    """What to fit and how to calibrate it."""

    name: str = 'monitor'
    scores: Mapping[str, Mapping[str, Any]] | None = None
    # score name -> its options; None for all scores that the network allows
    fuse: tuple[str, ...] | None = None  # None for those of FUSED_MEMBERS that are fitted
    false_alarm_rate: float = 0.01  # of in-distribution frames, each taken alone
    confidence: float = 0.95  # with which the rate holds
    class_images: int | None = None
    # calibration images with which a class is calibrated on its own; None for as many as pay
    class_names: tuple[str, ...] | None = None  # in the order of the network's outputs
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.class_images is not None and self.class_images < 1:
            raise NavMonitorError(f'--class-images {self.class_images}: must be at least 1')


def fit(
    classifier: Classifier,
    network: NetworkSpec,
    data: ImageSource,
    calibration: ImageSource,
    options: FitOptions,
    *,
    progress: Progress = lambda what, done, total: None,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Fit the scores to the training images and calibrate them on held-out ones.

    Args:
        classifier: The network to monitor, with its weights and preprocessing.
        network: How to build it again.
        data: Training images; without labels the network's own predictions serve as such.
        calibration: In-distribution images that neither the network nor the scores were fitted on;
            those that lie in ``data`` too are left out, compared by their pixels.
        options: Scores, fusion and budget.
        progress: Is told how far the work is.
        provenance: What else to note in the bundle.

    Returns:
        The bundle, not yet on disk.

    Raises:
        NavMonitorError: Labels do not fit the network, or there is too little data for the scores
            or the budget.
    """
    class_names = _class_names(classifier, data, options)
    labels = _labels(classifier, data, class_names)
    scores = empty_scores(classifier, options)
    described = _describe_source(data)
    held_out = without(calibration, data)
    shared = len(calibration) - len(held_out)
    if not len(held_out):
        raise NavMonitorError(
            f'all images of the calibration source {calibration.name} are training images too; '
            'calibrate on images that nothing was trained on'
        )
    alone = len(_fused_members(scores, options)) == 1  # nothing to fuse: all images calibrate it
    first, second = None, held_out
    if not alone:
        second, first = split(held_out, MARGINAL_SHARE, options.seed)
    # Too small a calibration set is refused before the work begins, not after it.
    _check_calibration(held_out, len(second), shared, options)
    rng = np.random.default_rng(options.seed)
    ranges = _layer_ranges(classifier, data.subset(rng.permutation(len(data))[:RANGE_SAMPLE]))
    required = options.scores is not None
    left_out = equip_with_possible(classifier, scores, required=required)
    correct, more = fit_scores(
        classifier, data, labels, scores, required=required, seed=options.seed, progress=progress
    )
    calibrated = calibrate(
        scores,
        None if first is None else run(classifier, first, progress, 'calibrating the scores'),
        run(classifier, second, progress, 'calibrating their fusion'),
        marginal_groups=None if first is None else first.groups,
        fused_groups=second.groups,
        fuse_members=_fused_members(scores, options),
        alpha=options.false_alarm_rate,
        confidence=options.confidence,
        class_images=options.class_images,
    )
    return Bundle(
        name=options.name,
        network=network,
        preprocess=classifier.preprocess,
        layer=classifier.layer,
        class_names=class_names,
        scores=scores,
        calibration=calibrated,
        layer_ranges=ranges,
        background=classifier.background,
        provenance={
            'date': datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            'data': described,
            'labels': 'network predictions' if data.labels is None else 'data',
            'correctly_classified': int(correct),
            'calibration': _describe_source(held_out),
            **({'calibration_images_shared_with_data': shared} if shared else {}),
            'left_out': {**left_out, **more},
            'versions': _versions(),
            **(provenance or {}),
        },
    )


def fit_scores(
    classifier: Classifier,
    data: ImageSource,
    labels: np.ndarray | None,
    scores: dict[str, Score],
    *,
    required: bool,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> tuple[int, dict[str, str]]:
    """Fit the scores to the training images in one stream, after a look at a sample of them.

    Args:
        classifier: Equipped with what the scores need.
        data: Training images.
        labels: int64 (N,), as the network numbers the classes; None for its own predictions.
        scores: Empty; those that the network cannot serve are taken out.
        required: Raise instead of taking scores out.
        seed: Of the sample.
        progress: Is told how far the work is.

    Returns:
        How many images are classified correctly, and why scores were taken out, by name.

    Raises:
        NavMonitorError: What was seen is not enough for a score.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:SAMPLE])
    sample = run(classifier, data.subset(chosen), progress, 'sampling')
    left_out = prepare(
        scores, sample, None if labels is None else labels[chosen], required=required
    )
    correct = _stream(classifier, data, labels, scores, progress)
    for score in scores.values():
        score.finish()
    return correct, left_out


def run(
    classifier: Classifier,
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'running the network',
) -> Activations:
    """Return the activations of all images of a source, in order, without maps."""
    return Activations.concatenate(
        [activations for _, activations in batches(classifier, source, progress, what)]
    )


def batches(
    classifier: Classifier, source: ImageSource, progress: Progress, what: str
) -> Iterator[tuple[slice, Activations]]:
    """Yield the activations of a source batch by batch, with the images' places in it."""
    total = len(source)
    progress(what, 0, total)
    for start in range(0, total, BATCH):
        stop = min(start + BATCH, total)
        pixels = np.stack(
            [classifier.preprocess.apply(source.image(i)) for i in range(start, stop)]
        )
        yield slice(start, stop), classifier(pixels)
        progress(what, stop, total)


def _check_calibration(
    calibration: ImageSource, kept: int, shared: int, options: FitOptions
) -> None:
    alpha, confidence = options.false_alarm_rate, options.confidence
    check_budget(alpha, confidence)
    needed = images_needed(alpha, confidence)
    if kept < needed:
        without_shared = f' that are not training images too ({shared} are)' if shared else ''
        raise NavMonitorError(
            f'{len(calibration)} calibration images ({calibration.name}){without_shared} are too '
            f'few for a false-alarm rate of {alpha:g} at {confidence:.0%} confidence: '
            + (
                f'{needed} are needed'
                if kept == len(calibration) else
                f'about {math.ceil(needed / (1 - MARGINAL_SHARE))} are needed, {needed} and half '
                'as many to fuse the scores by'
            )
            + '; give more images or a larger rate'
        )


def equip_with_possible(
    classifier: Classifier, scores: dict[str, Score], *, required: bool
) -> dict[str, str]:
    """Have every forward pass yield what the scores need, without scores that ask too much.

    Args:
        classifier: The network.
        scores: Those that the network cannot serve are taken out.
        required: Raise instead.

    Returns:
        Why scores were taken out, by name.

    Raises:
        NavMonitorError: The network cannot serve a score, and ``required``.
    """
    left_out = {}
    for name, score in list(scores.items()):
        try:
            equip(classifier, [score])
        except NavMonitorError as error:
            if required:
                raise
            del scores[name]
            left_out[name] = _reason(error)
    equip(classifier, scores.values())
    return left_out


def prepare(
    scores: dict[str, Score], sample: Activations, labels: np.ndarray | None, *, required: bool
) -> dict[str, str]:
    """Show the scores a sample of the training images.

    Args:
        scores: Those that the network cannot serve are taken out.
        sample: N images.
        labels: int64 (N,); None stands for the network's predictions.
        required: Raise instead of taking scores out.

    Returns:
        Why scores were taken out, by name.

    Raises:
        NotApplicableError: The network cannot serve a score, and ``required``.
        NavMonitorError: The layer is not fit to be monitored.
    """
    left_out = {}
    for name, score in list(scores.items()):
        try:
            score.prepare(sample, sample.predicted if labels is None else labels)
        except NotApplicableError as error:
            if required:
                raise
            del scores[name]
            left_out[name] = _reason(error)
    return left_out


def _reason(error: NavMonitorError) -> str:
    """Return why a score cannot be fitted, without its name and the remedy."""
    return str(error).partition(': ')[2].partition('; ')[0]


def _fused_members(scores: Mapping[str, Score], options: FitOptions) -> tuple[str, ...]:
    if options.fuse is not None:
        return options.fuse
    members = tuple(name for name in FUSED_MEMBERS if name in scores)
    return members or tuple(name for name, score in scores.items() if not score.windowed)


def empty_scores(classifier: Classifier, options: FitOptions) -> dict[str, Score]:
    """Return the scores that are to be fitted, empty.

    Raises:
        NavMonitorError: No score has such a name or option.
    """
    early = early_layers(classifier.layers)
    # Without a choice all of them; those that the network cannot serve are taken out later.
    wanted = {name: {} for name in SCORES} if options.scores is None else options.scores
    scores = {}
    for name, settings in wanted.items():
        chosen = dict(settings)
        if SCORES.get(name) is ChannelMeans and not chosen.get('layers'):
            chosen['layers'] = early
        scores[name] = make_score(
            name, chosen, classes=classifier.classes, width=classifier.width, head=classifier.head
        )
    return scores


def _stream(
    classifier: Classifier,
    data: ImageSource,
    labels: np.ndarray | None,
    scores: Mapping[str, Score],
    progress: Progress,
) -> int:
    correct = 0
    for place, activations in batches(classifier, data, progress, 'fitting'):
        truth = activations.predicted if labels is None else labels[place]
        correct += int((activations.predicted == truth).sum())
        for score in scores.values():
            score.update(activations, truth)
    return correct


def _class_names(
    classifier: Classifier, data: ImageSource, options: FitOptions
) -> tuple[str, ...]:
    names = options.class_names
    if names is None and data.class_names and len(data.class_names) == classifier.classes:
        names = data.class_names
    if names is None:
        names = tuple(f'class_{index}' for index in range(classifier.classes))
    if len(names) != classifier.classes:
        raise NavMonitorError(
            f'{len(names)} class names are given, but the network has {classifier.classes} '
            'classes; give one name for each output, in their order'
        )
    return tuple(names)


def _labels(
    classifier: Classifier, data: ImageSource, class_names: Sequence[str]
) -> np.ndarray | None:
    """Return the images' classes as the network numbers them, or None without labels."""
    if data.labels is None:
        return None
    labels = data.labels
    if data.class_names and tuple(data.class_names) != tuple(class_names):
        index = {name: number for number, name in enumerate(class_names)}
        if set(data.class_names) <= set(index):
            labels = np.array([index[name] for name in data.class_names])[labels]
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        background = (
            '' if classifier.background is None else
            f' besides the background class, output {classifier.background}'
        )
        raise NavMonitorError(
            f'{data.name} has labels from {labels.min()} to {labels.max()}, but the network has '
            f'classes 0 to {len(class_names) - 1}{background}; check --data, --model and '
            '--background'
        )
    return labels


def _layer_ranges(
    classifier: Classifier, images: ImageSource
) -> dict[str, tuple[float, float]]:
    """Return the 1st and 99th percentile of every layer's outputs, for fixed colour scales."""
    kept = classifier.taps
    values: dict[str, list[np.ndarray]] = {layer.name: [] for layer in classifier.layers}
    classifier.tap(values)
    try:
        for index in range(len(images)):
            maps = classifier(classifier.preprocess.apply(images.image(index))[None]).maps
            for name, output in maps.items():
                # A few thousand values an image are plenty for a percentile.
                flat = output.reshape(-1)
                values[name].append(flat[:: max(1, flat.size // 4096)])
    finally:
        classifier.tap(kept)
    ranges = {}
    for name, parts in values.items():
        low, high = np.percentile(np.concatenate(parts), (1, 99))
        ranges[name] = float(low), float(high)
    return ranges


def _describe_source(source: ImageSource) -> dict[str, Any]:
    return {
        'source': source_label(source.name),
        'images': len(source),
        'sha256': source.fingerprint(),
    }


def source_label(spec: str) -> str:
    """Return a source's specification without the folders of the machine it lay on."""
    location, mark, options = spec.partition('?')
    return location.rstrip('/').rpartition('/')[2] + mark + options


def _versions() -> dict[str, str]:
    versions = {'nav_monitor_ros': __version__, 'python': platform.python_version()}
    for package in ('torch', 'torchvision', 'numpy', 'safetensors'):
        versions[package] = metadata.version(package)
    return versions
