"""Fit a monitor to a network: images in, a bundle out."""

from __future__ import annotations

import datetime
import hashlib
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from nav_monitor_ros import __version__
from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.calibration_images import CalibrationImages
from nav_monitor_ros.bundle.networks import configure_for_scores
from nav_monitor_ros.data.batches import (
    BATCH,
    Batch,
    Progress,
    ScoredImages,
    batches,
    digests_of,
    each,
    score_images,
)
from nav_monitor_ros.data.image_source import (
    ImageSource,
    add_fingerprints,
    fingerprint_of,
    split,
)
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.data.labels import names_from, require_known_classes
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.decision.calibration import (
    Calibration,
    CalibrationOptions,
    CalibrationScores,
    calibrate,
    require_single_frames,
)
from nav_monitor_ros.decision.false_alarm_budget import check_budget, images_needed
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.checkpoint import Checkpoint
from nav_monitor_ros.fitting.partial_fit import PartialFit
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.class_names import require_names
from nav_monitor_ros.perception.network.layers import early_layers
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.channel_means import ChannelMeans
from nav_monitor_ros.scores.registry import SCORES, make_score

SAMPLE = 4096  # images that the scores look at before the stream
MARGINAL_SHARE = 1 / 3  # of the calibration images, by which scores are fused; see calibrate
PROBES = 16  # images by which a checkpoint knows its data again
RANGE_SAMPLE = 64  # images from which the layers' display ranges are taken

# Chosen by benchmarks/choose_fusion.py from in-distribution images alone; docs/judging.md.
FUSED_MEMBERS = ('pattern', 'relative_mahalanobis', 'vim', 'channel_means', 'energy')

# Takes in images on other machines: scores that have seen the sample, class names, checksums of the
# calibration images, numbers of images in the sample and after it, seed, progress.
Elsewhere = Callable[[PartialFit, Sequence[str], Sequence[bytes], int, int, int, Progress], None]


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
    skip_invalid: bool = False  # leave out images that give NaN or infinity; else they end the fit

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.class_images is not None and self.class_images < 1:
            raise NavMonitorError(f'--class-images {self.class_images}: must be at least 1')


def fit(
    classifier: RunningNetwork,
    network: NetworkSpec,
    data: ImageSource,
    calibration: ImageSource,
    options: FitOptions,
    *,
    workers: int | None = None,
    checkpoint: Checkpoint | None = None,
    elsewhere: Elsewhere | None = None,
    progress: Progress = lambda what, done, total: None,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Fit the scores to the training images and calibrate them on held-out ones.

    Every image goes through the network once. Training images are read once, but for a few dozen
    that the network is tried on before; calibration images are read twice, the first time for the
    checksums by which those that are training images too are found. What is in memory of the
    training images, but for their places and labels, does not grow with their number.

    Args:
        classifier: The network to monitor, with its weights and preprocessing.
        network: How to build it again.
        data: Training images; without labels the network's own predictions serve as such.
        calibration: In-distribution images that neither the network nor the scores were fitted on;
            those that lie in ``data`` too are left out, compared by their pixels.
        options: Scores, fusion and budget.
        workers: Threads that read and decode images; None for one fewer than there are cores.
        checkpoint: Where the work is kept while it goes on, and gone on with if it was interrupted:
            the bundle is the same bit for bit.
        elsewhere: Takes in the training images besides the sample, on other machines.
        progress: Is told how far the work is.
        provenance: What else to note in the bundle.

    Returns:
        The bundle, not yet on disk.

    Raises:
        NavMonitorError: Labels do not fit the network, or there is too little data for the scores
            or the budget.
    """
    exif = classifier.preprocess.exif
    data, calibration = data.oriented(exif), calibration.oriented(exif)
    class_names = _class_names(classifier, data, options)
    require_names([options.name], 'the name of the bundle', 'choose another one (--name)')
    require_names(class_names, 'the name of a class', 'rename it')
    labels = data.numbered_for(class_names, classifier.background).labels
    require_known_classes(calibration, class_names)
    scores = empty_scores(classifier, options)
    # Too small a calibration set is refused before the work begins, not after it.
    _parts_of_calibration(calibration, calibration, scores, options)
    digests = digests_of(
        calibration, progress, 'reading the calibration images', workers=workers
    )
    rng = np.random.default_rng(options.seed)
    invalid = InvalidImages(skip=options.skip_invalid)
    ranges = _layer_ranges(
        classifier, data.subset(rng.permutation(len(data))[:RANGE_SAMPLE]), options.skip_invalid
    )
    required = options.scores is not None
    left_out = equip_with_possible(classifier, scores, required=required)
    if checkpoint is not None:
        _identify(checkpoint, classifier, network, data, labels, class_names, digests, options)
    partial = PartialFit(scores, digests)
    more = fit_partial(
        classifier, data, labels, partial, required=required, seed=options.seed, workers=workers,
        checkpoint=checkpoint, progress=progress, invalid=invalid,
        spread=None if elsewhere is None else lambda sample, count: elsewhere(
            partial, class_names, digests, sample, count, options.seed, progress
        ),
    )
    for score in scores.values():
        score.finish()
    held_out = calibration.subset(np.flatnonzero(~partial.shared))
    shared = len(calibration) - len(held_out)
    first, second = _parts_of_calibration(calibration, held_out, scores, options)
    calibrated, used = _calibrated(
        classifier, scores, calibration, first, second, options, workers, progress, invalid
    )
    left_out_images = partial.left_out + len(held_out) - len(used[0]) - len(used[1])
    chosen = np.zeros(len(calibration), bool)
    chosen[[*used[0], *used[1]]] = True
    invalid.report('left out, as they give NaN or infinity:')
    return Bundle(
        name=options.name,
        network=network,
        preprocess=classifier.preprocess,
        layer=classifier.layer,
        class_names=class_names,
        scores=scores,
        calibration=calibrated,
        calibration_images=CalibrationImages.of(
            [digests[place] for place in np.flatnonzero(chosen)],
            np.isin(np.flatnonzero(chosen), used[0]),
        ),
        layer_ranges=ranges,
        background=classifier.background,
        reference=classifier.engine,
        provenance={
            'date': datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            'data': {
                'source': source_label(data.name), 'images': partial.images,
                'sha256': fingerprint_of(partial.fingerprint),
            },
            'labels': 'network predictions' if labels is None else 'data',
            'correctly_classified': partial.correct,
            'calibration': {
                'source': source_label(held_out.name), 'images': int(chosen.sum()),
                'sha256': _fingerprint(calibration, digests, chosen),
            },
            **({'images_left_out': left_out_images} if left_out_images else {}),
            **({'calibration_images_shared_with_data': shared} if shared else {}),
            'left_out': {**left_out, **more},
            'versions': _versions(),
            **(provenance or {}),
        },
    )


def fit_scores(
    classifier: RunningNetwork,
    data: ImageSource,
    labels: np.ndarray | None,
    scores: dict[str, Score],
    *,
    required: bool,
    seed: int = 0,
) -> dict[str, str]:
    """Fit scores to training images; see ``fit_partial``.

    Returns:
        Why scores were taken out of ``scores``, by name.

    Raises:
        NavMonitorError: What was seen is not enough for a score.
    """
    left_out = fit_partial(
        classifier, data, labels, PartialFit(scores), required=required, seed=seed
    )
    for score in scores.values():
        score.finish()
    return left_out


def fit_partial(
    classifier: RunningNetwork,
    data: ImageSource,
    labels: np.ndarray | None,
    partial: PartialFit,
    *,
    required: bool,
    seed: int = 0,
    workers: int | None = None,
    checkpoint: Checkpoint | None = None,
    spread: Callable[[int, int], None] | None = None,
    progress: Progress = lambda what, done, total: None,
    invalid: InvalidImages | None = None,
) -> dict[str, str]:
    """Have the scores take the training images in: a sample of them first, then all others.

    Args:
        classifier: Equipped with what the scores need.
        data: Training images.
        labels: int64 (N,), as the network numbers the classes; None for its own predictions.
        partial: Empty scores; those that the network cannot serve are taken out.
        required: Raise instead of taking scores out.
        seed: Of the sample.
        workers: Threads that read and decode.
        checkpoint: Goes on from there, and keeps how far it is.
        spread: Has other machines take in what comes after the sample, given the numbers of images
            in it and after it.
        progress: Is told how far the work is.
        invalid: What is done about images that give NaN or infinity; by default the first ends it.

    Returns:
        Why scores were taken out, by name.

    Raises:
        NavMonitorError: An image or the checkpoint cannot be read, or the layer is not fit to be
            monitored.
    """
    chosen, others = sample_and_rest(len(data), seed)
    left_out = None if checkpoint is None else checkpoint.load(partial)
    if left_out is None:
        left_out = take_sample(
            classifier, data.subset(chosen), None if labels is None else labels[chosen], partial,
            required=required, workers=workers, progress=progress, invalid=invalid,
        )
    if spread is not None:
        spread(len(chosen), len(others))
        return left_out
    known = dict(left_out)
    # Images are taken in one order, so their number says which are still to come.
    others = others[partial.taken - len(chosen) :]
    take_images(
        classifier, data.subset(others), None if labels is None else labels[others], partial,
        workers=workers, progress=progress, invalid=invalid,
        after=lambda: None if checkpoint is None else checkpoint.save_when_due(partial, known),
    )
    return left_out


def sample_and_rest(
    count: int, seed: int, sample: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the sample that the scores look at first, and of all other images."""
    size = SAMPLE if sample is None else sample
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:size])
    return chosen, np.setdiff1d(np.arange(count), chosen, assume_unique=True)


def take_sample(
    classifier: RunningNetwork,
    sample: ImageSource,
    labels: np.ndarray | None,
    partial: PartialFit,
    *,
    required: bool,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
    invalid: InvalidImages | None = None,
) -> dict[str, str]:
    """Prepare the scores by a sample of the training images, and take it in.

    Args:
        classifier: As for ``fit_partial``, like all others but for two.
        sample: Of the training images.
        labels: int64, of the sample.
        partial: Empty scores.
        required: Raise instead of taking scores out.
        workers: Threads.
        progress: Is told how far the work is.
        invalid: As for ``fit_partial``.

    Returns:
        Why scores were taken out, by name.

    Raises:
        NavMonitorError: The layer is not fit to be monitored.
    """
    parts = list(batches(
        classifier, sample, progress, 'sampling', workers=workers, digests=True, invalid=invalid
    ))
    whole = Activations.concatenate([part.activations for part in parts])
    if not len(whole):
        raise NavMonitorError(
            f'{sample.name}: the network gives NaN or infinity for all of {len(sample)} images; '
            'check weights and preprocessing'
        )
    places = np.concatenate([part.places for part in parts])
    left_out = prepare(
        partial.scores, whole, None if labels is None else labels[places], required=required
    )
    for part in parts:
        _take(partial, sample, labels, part)
    return left_out


def take_images(
    classifier: RunningNetwork,
    others: ImageSource,
    labels: np.ndarray | None,
    partial: PartialFit,
    *,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
    after: Callable[[], None] = lambda: None,
    invalid: InvalidImages | None = None,
) -> None:
    """Have prepared scores take in training images besides the sample, batch by batch.

    Args:
        classifier: As for ``fit_partial``, like all others but for two.
        others: Training images.
        labels: int64, theirs.
        partial: Prepared scores.
        workers: Threads.
        progress: Is told how far the work is, counting from what ``partial`` has seen before.
        after: Is called after each batch.
        invalid: As for ``fit_partial``.
    """
    before, total = partial.taken, partial.taken + len(others)
    progress('fitting', 0, total)

    def told(what: str, done: int, _total: int) -> None:
        progress(what, before + done, total)

    def take(batch: Batch) -> None:
        _take(partial, others, labels, batch)
        after()

    stream = batches(
        classifier, others, told, 'fitting', workers=workers, digests=True, invalid=invalid
    )
    each(stream, take)


def _take(
    partial: PartialFit, source: ImageSource, labels: np.ndarray | None, batch: Batch
) -> None:
    partial.update(
        batch,
        None if labels is None else labels[batch.places],
        [source.fingerprint_part(place, digest)
         for place, digest in zip(batch.places.tolist(), batch.digests, strict=True)],
    )


def _identify(
    checkpoint: Checkpoint,
    classifier: RunningNetwork,
    network: NetworkSpec,
    data: ImageSource,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    digests: Sequence[bytes],
    options: FitOptions,
) -> None:
    """Tell a checkpoint what the fit is made of, without reading all images for it."""
    probes = np.linspace(0, len(data) - 1, PROBES).astype(int)
    checkpoint.identify(
        data=[
            data.name, len(data), [data.digest(int(place)).hex() for place in probes],
            hashlib.sha256(data.places.tobytes()).hexdigest(),
            None if labels is None else hashlib.sha256(labels.tobytes()).hexdigest(),
            list(class_names),
        ],
        calibration=b''.join(digests),
        network=[
            network.spec, dict(network.arguments), classifier.layer, classifier.background,
            classifier.preprocess.to_dict(), classifier.fingerprint(),
            str(classifier.engine), str(classifier.device).partition(':')[0],
        ],
        options=repr(options),
        versions=[_versions(), BATCH, SAMPLE],
    )


def _parts_of_calibration(
    calibration: ImageSource,
    held_out: ImageSource,
    scores: Mapping[str, Score],
    options: FitOptions,
) -> tuple[ImageSource | None, ImageSource]:
    """Return the images by which scores are fused, and those that calibrate their fusion.

    Args:
        calibration: The calibration images.
        held_out: Those of them that are no training images, as far as is known.
        scores: That are fitted.
        options: Fusion and budget.

    Returns:
        None for the first where there is nothing to fuse: all images calibrate then.

    Raises:
        NavMonitorError: There are too few, or a member of the fusion cannot be fused.
    """
    if not len(held_out):
        raise NavMonitorError(
            f'all images of the calibration source {calibration.name} are training images too; '
            'calibrate on images that nothing was trained on'
        )
    members = _fused_members(scores, options)
    require_single_frames(scores, members)
    first, second = None, held_out
    if len(members) > 1:
        second, first = split(held_out, MARGINAL_SHARE, options.seed)
    _check_calibration(held_out, len(second), len(calibration) - len(held_out), options)
    return first, second


def _calibrated(
    classifier: RunningNetwork,
    scores: Mapping[str, Score],
    calibration: ImageSource,
    first: ImageSource | None,
    second: ImageSource,
    options: FitOptions,
    workers: int | None,
    progress: Progress,
    invalid: InvalidImages,
) -> tuple[Calibration, tuple[np.ndarray, np.ndarray]]:
    """Calibrate fitted scores; of the images their scores alone are kept.

    Returns:
        The calibration, and the places in ``calibration`` of the images in its two parts.
    """

    def scored(part: ImageSource, what: str) -> tuple[ScoredImages, ImageSource]:
        found = score_images(
            classifier, scores, part, progress, what, workers=workers, invalid=invalid
        )
        return found, part.subset(found.places)

    marginal, seen_first = None, None
    if first is not None:
        marginal, seen_first = scored(first, 'calibrating the scores')
    fused, seen_second = scored(second, 'calibrating their fusion')
    if len(seen_second) < len(second):
        left_out = len(second) - len(seen_second)
        _check_calibration(seen_second, len(seen_second), left_out, options)
    fusion_set = None
    if marginal is not None and seen_first is not None:
        fusion_set = CalibrationScores(marginal.scores, marginal.predicted, seen_first.groups)
    calibrated = calibrate(
        fusion_set,
        CalibrationScores(fused.scores, fused.predicted, seen_second.groups),
        classes=classifier.classes,
        options=CalibrationOptions(
            fusion_members=tuple(_fused_members(scores, options)),
            alpha=options.false_alarm_rate,
            confidence=options.confidence,
            class_images=options.class_images,
        ),
    )
    nothing = np.zeros(0, np.int64)
    return calibrated, (
        nothing if seen_first is None else _places_in(calibration, seen_first),
        _places_in(calibration, seen_second),
    )


def _places_in(source: ImageSource, part: ImageSource) -> np.ndarray:
    """Return the places in a source of the images of a part of it; no image is in it twice."""
    order = np.argsort(source.places, kind='stable')
    return order[np.searchsorted(source.places, part.places, sorter=order)]


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
    classifier: RunningNetwork, scores: dict[str, Score], *, required: bool
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
            configure_for_scores(classifier, [score])
        except NavMonitorError as error:
            if required:
                raise
            del scores[name]
            left_out[name] = _reason(error)
    configure_for_scores(classifier, scores.values())
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


def empty_scores(classifier: RunningNetwork, options: FitOptions) -> dict[str, Score]:
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


def _class_names(
    classifier: RunningNetwork, data: ImageSource, options: FitOptions
) -> tuple[str, ...]:
    names = options.class_names
    if names is None:
        names = names_from(data, classifier.classes)
    if names is None:
        names = tuple(f'class_{index}' for index in range(classifier.classes))
    if len(names) != classifier.classes:
        raise NavMonitorError(
            f'{len(names)} class names are given, but the network has {classifier.classes} '
            'classes; give one name for each output, in their order'
        )
    return tuple(names)


def _layer_ranges(
    classifier: RunningNetwork, images: ImageSource, skip_invalid: bool
) -> dict[str, tuple[float, float]]:
    """Return the 1st and 99th percentile of every layer's outputs, for fixed colour scales."""
    kept, invalid = classifier.taps, InvalidImages(skip=skip_invalid)
    values: dict[str, list[np.ndarray]] = {layer.name: [] for layer in classifier.layers}
    classifier.tap(values)
    try:
        for index in range(len(images)):
            seen = classifier(classifier.preprocess.apply(images.image(index))[None])
            if not invalid.valid(images, np.array([index]), seen).all():
                continue
            for name, output in seen.maps.items():
                # A few thousand values an image are plenty for a percentile.
                flat = output.reshape(-1)
                some = flat[:: max(1, flat.size // 4096)]
                values[name].append(some[np.isfinite(some)])  # masks of attention are infinite
    finally:
        classifier.tap(kept)
    ranges = {}
    for name, parts in values.items():
        whole = np.concatenate([*parts, np.zeros(0, np.float32)])
        low, high = np.percentile(whole, (1, 99)) if len(whole) else (0.0, 0.0)
        ranges[name] = float(low), float(high)
    return ranges


def _fingerprint(source: ImageSource, digests: Sequence[bytes], chosen: np.ndarray) -> str:
    """Return the fingerprint of some images of a source, bool (N,), from all checksums."""
    return fingerprint_of(add_fingerprints(
        source.fingerprint_part(int(place), digests[place]) for place in np.flatnonzero(chosen)
    ))


def _versions() -> dict[str, str]:
    versions = {'nav_monitor_ros': __version__, 'python': platform.python_version()}
    for package in ('torch', 'torchvision', 'numpy', 'safetensors'):
        versions[package] = metadata.version(package)
    return versions
