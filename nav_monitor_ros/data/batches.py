"""Run the network on images in batches, while other threads decode the next ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import compress
from typing import TypeVar

import numpy as np

from nav_monitor_ros.bundle.used_images import image_ids
from nav_monitor_ros.data.image_source import ImageSource, digest_of
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.scores.base import Score

BATCH = 64
AHEAD = 3  # batches decoded or being decoded in addition to the one in the network
_PIECE = 8  # images that one thread decodes at once
_MOST_WORKERS = 16

Progress = Callable[[str, int, int], None]  # (stage, images done, images in total)
_Item = TypeVar('_Item')


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of a source's images with the network's activations."""

    places: np.ndarray  # int64 (N,), indices in the source
    activations: Activations  # finite
    left_out: int  # images of the source in between whose activations were not finite
    digests: tuple[bytes, ...]  # checksums of the pixels, if requested


@dataclass(frozen=True, eq=False)
class _Decoded:
    """A batch of a source's images, preprocessed for the network."""

    places: slice
    pixels: np.ndarray  # float32 (N, channels, height, width)
    digests: list[bytes]
    pieces: list[Future[None]]


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Scores of N images of a source, in order."""

    scores: dict[str, np.ndarray]  # float64 (N,) each
    predicted: np.ndarray  # int64 (N,)
    places: np.ndarray  # int64 (N,), indices in the source: all of them, unless some were left out
    digests: tuple[bytes, ...] = ()  # checksums of the pixels, if requested

    def __getitem__(self, rows: np.ndarray) -> ScoredImages:
        """Return some of the images, int (M,)."""
        return ScoredImages(
            {name: values[rows] for name, values in self.scores.items()}, self.predicted[rows],
            self.places[rows], tuple(self.digests[row] for row in rows) if self.digests else (),
        )


def default_workers() -> int:
    """Return the number of decoding threads: one core is left for the network."""
    return min(_MOST_WORKERS, max(1, len(os.sched_getaffinity(0)) - 1))


def batches(
    classifier: RunningNetwork,
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'running the network',
    *,
    workers: int | None = None,
    digests: bool = False,
    invalid: InvalidImages | None = None,
) -> Iterator[Batch]:
    """Run the network on the images of a source and yield the batches in order.

    Args:
        classifier: Network; it runs on the caller's thread.
        source: Images; a batch always has ``BATCH`` of them.
        progress: Called with the stage, the number of images done and the total.
        what: Name of the stage, for ``progress``.
        workers: Threads that read and decode; None for ``default_workers``.
        digests: Also yield a checksum of each image's pixels.
        invalid: Handling of images that give NaN or infinity; by default the first one raises.

    Raises:
        NavMonitorError: An image cannot be read.
        InvalidActivationsError: The activations of an image are not finite.
    """
    invalid = InvalidImages() if invalid is None else invalid
    total = len(source)
    progress(what, 0, total)
    for decoded in _decoded(classifier.preprocess, source, workers, digests):
        activations = classifier(decoded.pixels)
        places = np.arange(decoded.places.start, decoded.places.stop)
        found, left_out = tuple(decoded.digests), 0
        kept = invalid.valid(source, places, activations)
        if digests:
            activations = replace(activations, image_ids=image_ids(found))
        if not kept.all():
            activations, left_out = activations[kept], int((~kept).sum())
            places, found = places[kept], tuple(compress(found, kept))
        yield Batch(places, activations, left_out, found)
        progress(what, decoded.places.stop, total)


def each(items: Iterable[_Item], function: Callable[[_Item], None]) -> None:
    """Call a function with each item in turn, while another thread produces the next.

    Raises:
        Exception: Whatever the function raises.
    """
    with ThreadPoolExecutor(1, 'nav_monitor scores') as thread:
        running: deque[Future[None]] = deque()
        for item in items:
            running.append(thread.submit(function, item))
            # One item waits while another is processed, so that memory stays bounded.
            if len(running) > 1:
                running.popleft().result()
        for future in running:
            future.result()


def run(
    classifier: RunningNetwork,
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'running the network',
    *,
    workers: int | None = None,
) -> Activations:
    """Return the activations of all images of a source, in order, without maps."""
    return Activations.concatenate([
        batch.activations for batch in batches(classifier, source, progress, what, workers=workers)
    ])


def score_images(
    classifier: RunningNetwork,
    scores: Mapping[str, Score],
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'scoring',
    *,
    workers: int | None = None,
    digests: bool = False,
    invalid: InvalidImages | None = None,
) -> ScoredImages:
    """Return the scores of all images of a source; activations are not kept.

    Args:
        classifier: Network set up to yield what the scores need.
        scores: Fitted scores; those over several frames begin with the first image.
        source: N images, in their order.
        progress: Called with the stage, the number of images done and the total.
        what: Name of the stage, for ``progress``.
        workers: As for ``batches``.
        digests: Likewise.
        invalid: Likewise.
    """
    values = {name: np.empty(len(source)) for name in scores}
    predicted = np.full(len(source), -1)
    checksums: list[bytes] = []
    for score in scores.values():
        score.forget()

    def take(batch: Batch) -> None:
        seen = batch.activations
        if not len(seen):
            return
        predicted[batch.places] = seen.predicted
        checksums.extend(batch.digests)
        for name, score in scores.items():
            values[name][batch.places] = (
                [score.score_frame(seen[i : i + 1]) for i in range(len(seen))]
                if score.windowed else score.score(seen)
            )

    stream = batches(
        classifier, source, progress, what, workers=workers, digests=digests, invalid=invalid
    )
    each(stream, take)
    for score in scores.values():
        score.forget()
    kept = np.flatnonzero(predicted >= 0)
    return ScoredImages(
        {name: value[kept] for name, value in values.items()}, predicted[kept], kept,
        tuple(checksums),
    )


def digests_of(
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'reading the images',
    *,
    workers: int | None = None,
) -> list[bytes]:
    """Return a checksum of each image's pixels, in order; otherwise as ``batches``."""
    total = len(source)
    progress(what, 0, total)
    found: list[bytes] = []
    with ThreadPoolExecutor(workers or default_workers(), 'nav_monitor decoder') as pool:
        for start in range(0, total, BATCH):
            found += pool.map(source.digest, range(start, min(start + BATCH, total)))
            progress(what, len(found), total)
    return found


def _decoded(
    preprocess: Preprocess, source: ImageSource, workers: int | None, digests: bool
) -> Iterator[_Decoded]:
    """Yield preprocessed batches in order, while others are being decoded."""
    starts = iter(range(0, len(source), BATCH))
    ahead: deque[_Decoded] = deque()
    with ExitStack() as resources:
        pool = ThreadPoolExecutor(workers or default_workers(), 'nav_monitor decoder')
        resources.callback(pool.shutdown, wait=True, cancel_futures=True)
        while True:
            while len(ahead) <= AHEAD and (start := next(starts, None)) is not None:
                ahead.append(_begin(pool, preprocess, source, start, digests))
            if not ahead:
                return
            batch = ahead.popleft()
            for piece in batch.pieces:
                piece.result()
            yield batch


def _begin(
    pool: ThreadPoolExecutor, preprocess: Preprocess, source: ImageSource, start: int, digests: bool
) -> _Decoded:
    """Schedule the decoding of a batch."""
    stop = min(start + BATCH, len(source))
    shape = preprocess.channels, preprocess.height, preprocess.width
    pixels = np.empty((stop - start, *shape), np.float32)
    checksums = [b''] * (stop - start if digests else 0)

    def decode(first: int) -> None:
        for row in range(first, min(first + _PIECE, stop - start)):
            image = source.image(start + row)
            if digests:
                checksums[row] = digest_of(image)
            pixels[row] = preprocess.apply(image)

    pieces = [pool.submit(decode, first) for first in range(0, stop - start, _PIECE)]
    return _Decoded(slice(start, stop), pixels, checksums, pieces)
