"""Run the network on the training images and fit the scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from nav_monitor_ros.data.batches import Batch, Progress, batches, each
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit_checkpoint import FitCheckpoint
from nav_monitor_ros.fitting.partial_fit import PartialFit
from nav_monitor_ros.fitting.score_selection import prepare_scores
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.base import Score

SAMPLE = 4096  # images for preparing the scores before the full pass
RANGE_SAMPLE = 64  # training images from which the ranges of the layers' outputs are taken


def fit_scores(
    classifier: RunningNetwork,
    data: ImageSource,
    labels: np.ndarray | None,
    scores: dict[str, Score],
    *,
    required: Collection[str],
    seed: int = 0,
) -> dict[str, str]:
    """Fit scores to training images; see ``fit_partial``.

    Returns:
        Reasons for scores removed from ``scores``, by name.

    Raises:
        NavMonitorError: The images do not suffice for a score.
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
    required: Collection[str],
    seed: int = 0,
    workers: int | None = None,
    checkpoint: FitCheckpoint | None = None,
    spread: Callable[[int, int], None] | None = None,
    progress: Progress = lambda what, done, total: None,
    invalid: InvalidImages | None = None,
    prepared: Callable[[Mapping[str, str]], None] = lambda left_out: None,
) -> dict[str, str]:
    """Fit the scores to the training images: first to a sample, then to all others.

    Args:
        classifier: Network set up to yield what the scores need.
        data: Training images.
        labels: int64 (N,), in the network's class numbering; None for its own predictions.
        partial: Empty scores; those that do not apply to the network are removed.
        required: Names of scores for which to raise instead of removing them.
        seed: Random seed for the sample.
        workers: Threads that read and decode.
        checkpoint: Checkpoint to resume from and to save progress in.
        spread: Fits to the images after the sample on other machines, given the numbers of images
            in and after the sample.
        progress: Called with the stage, the number of images done and the total.
        invalid: Handling of images that give NaN or infinity; by default the first one raises.
        prepared: Called after the sample, with why scores were taken out, by name; whatever it
            raises ends the fit before the other images are read.

    Returns:
        Reasons for removed scores, by name.

    Raises:
        NavMonitorError: An image or the checkpoint cannot be read, or the layer is not suitable for
            monitoring.
    """
    chosen, others = sample_and_rest(len(data), seed)
    left_out = None if checkpoint is None else checkpoint.load(partial)
    if left_out is None:
        left_out = take_sample(
            classifier, data.subset(chosen), None if labels is None else labels[chosen], partial,
            required=required, workers=workers, progress=progress, invalid=invalid,
        )
    prepared(left_out)
    if spread is not None:
        spread(len(chosen), len(others))
        return left_out
    known = dict(left_out)
    # The order of the images is fixed, so their number tells which remain.
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
    """Return the indices of the sample and of all other images."""
    size = SAMPLE if sample is None else sample
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:size])
    return chosen, np.setdiff1d(np.arange(count), chosen, assume_unique=True)


def take_sample(
    classifier: RunningNetwork,
    sample: ImageSource,
    labels: np.ndarray | None,
    partial: PartialFit,
    *,
    required: Collection[str],
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
    invalid: InvalidImages | None = None,
) -> dict[str, str]:
    """Prepare the scores with a sample of the training images, then fit them to it.

    Args:
        classifier: As for ``fit_partial``, as are the other arguments unless noted.
        sample: Sample of the training images.
        labels: int64, labels of the sample.
        partial: Empty scores.
        required: Names of scores for which to raise instead of removing them.
        workers: Number of threads.
        progress: Called with the stage, the number of images done and the total.
        invalid: As for ``fit_partial``.

    Returns:
        Reasons for removed scores, by name.

    Raises:
        NavMonitorError: The layer is not suitable for monitoring.
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
    left_out = prepare_scores(
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
    """Fit prepared scores to the training images besides the sample, batch by batch.

    Args:
        classifier: As for ``fit_partial``, as are the other arguments unless noted.
        others: Training images besides the sample.
        labels: int64, their labels.
        partial: Prepared scores.
        workers: Number of threads.
        progress: Called with the stage, the number of images done and the total, counting from the
            images already in ``partial``.
        after: Called after each batch.
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


def layer_ranges(
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
                # A few thousand values per image suffice for a percentile.
                flat = output.reshape(-1)
                some = flat[:: max(1, flat.size // 4096)]
                values[name].append(some[np.isfinite(some)])  # attention masks are infinite
    finally:
        classifier.tap(kept)
    ranges = {}
    for name, parts in values.items():
        whole = np.concatenate([*parts, np.zeros(0, np.float32)])
        low, high = np.percentile(whole, (1, 99)) if len(whole) else (0.0, 0.0)
        ranges[name] = float(low), float(high)
    return ranges
