"""The training images, through the network and into the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

SAMPLE = 4096  # images that the scores look at before the stream


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
    checkpoint: FitCheckpoint | None = None,
    spread: Callable[[int, int], None] | None = None,
    progress: Progress = lambda what, done, total: None,
    invalid: InvalidImages | None = None,
    prepared: Callable[[Mapping[str, str]], None] = lambda left_out: None,
) -> dict[str, str]:
    """Have the scores take the training images in: a sample of them first, then all others.

    Args:
        classifier: Equipped with what the scores need.
        data: Training images.
        labels: int64 (N,), as the network numbers the classes; None for its own predictions.
        partial: Empty scores; those that the network cannot serve are taken out.
        required: Raise instead of taking scores out.
        seed: Random seed for the sample.
        workers: Threads that read and decode.
        checkpoint: Goes on from there, and keeps how far it is.
        spread: Has other machines take in what comes after the sample, given the numbers of images
            in it and after it.
        progress: Called with the stage, the number of images done and the total.
        invalid: Handling of images that give NaN or infinity; by default the first one raises.
        prepared: Called after the sample, with why scores were taken out, by name; whatever it
            raises ends the fit before the other images are read.

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
    prepared(left_out)
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
        classifier: As for ``fit_partial``, as are the other arguments unless noted.
        sample: Sample of the training images.
        labels: int64, of the sample.
        partial: Empty scores.
        required: Raise instead of taking scores out.
        workers: Threads.
        progress: Called with the stage, the number of images done and the total.
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
    """Have prepared scores take in training images besides the sample, batch by batch.

    Args:
        classifier: As for ``fit_partial``, as are the other arguments unless noted.
        others: Training images.
        labels: int64, theirs.
        partial: Prepared scores.
        workers: Threads.
        progress: Called with the stage, the number of images done and the total, counting from what
            ``partial`` has seen before.
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
