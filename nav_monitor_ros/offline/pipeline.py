"""Images through the network batch by batch, decoded by other threads while it runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nav_monitor_ros.offline.images import ImageSource, digest_of
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.perception.running import RunningNetwork
from nav_monitor_ros.scores.base import Score

BATCH = 64
AHEAD = 3  # batches that are decoded or being decoded besides the one in the network
_PIECE = 8  # images that one thread decodes at once
_MOST_WORKERS = 16

Progress = Callable[[str, int, int], None]  # (what is being done, images done, images in all)
_Item = TypeVar('_Item')


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images of a source, through the network."""

    places: slice  # in the source
    activations: Activations
    digests: tuple[bytes, ...]  # of the pixels, where they were asked for


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Some images of a source, before the network."""

    places: slice
    pixels: np.ndarray  # float32 (N, channels, height, width)
    digests: list[bytes]
    pieces: list[Future[None]]


def default_workers() -> int:
    """Return how many threads decode: one fewer than there are cores, which the network needs."""
    return min(_MOST_WORKERS, max(1, len(os.sched_getaffinity(0)) - 1))


def batches(
    classifier: RunningNetwork,
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'running the network',
    *,
    workers: int | None = None,
    digests: bool = False,
) -> Iterator[Batch]:
    """Yield the images of a source batch by batch, in order, through the network.

    Args:
        classifier: Runs on the caller's thread.
        source: Images; ``BATCH`` of them are a batch, whoever asks.
        progress: Is told how far the work is.
        what: It is called.
        workers: Threads that read and decode; None for ``default_workers``.
        digests: Yield a checksum of each image's pixels as well.

    Raises:
        NavMonitorError: An image cannot be read.
    """
    total = len(source)
    progress(what, 0, total)
    for decoded in _decoded(classifier.preprocess, source, workers, digests):
        activations = classifier(decoded.pixels)
        yield Batch(decoded.places, activations, tuple(decoded.digests))
        progress(what, decoded.places.stop, total)


def each(items: Iterable[_Item], function: Callable[[_Item], None]) -> None:
    """Call a function with each item in turn, on a thread beside that which makes the items.

    Raises:
        Exception: Whatever the function raises.
    """
    with ThreadPoolExecutor(1, 'nav_monitor scores') as thread:
        running: deque[Future[None]] = deque()
        for item in items:
            running.append(thread.submit(function, item))
            if len(running) > 1:  # one waits while one is at work: memory stays bounded
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
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the scores of all images of a source without keeping their activations.

    Args:
        classifier: With all that the scores need.
        scores: Fitted; those that look back begin with the first image.
        source: N images, in their order.
        progress: Is told how far the work is.
        what: It is called.
        workers: As for ``batches``.

    Returns:
        float64 (N,) of each score, and the predicted classes, int64 (N,).
    """
    values = {name: np.empty(len(source)) for name in scores}
    predicted = np.empty(len(source), np.int64)
    for score in scores.values():
        score.forget()

    def take(batch: Batch) -> None:
        seen = batch.activations
        predicted[batch.places] = seen.predicted
        for name, score in scores.items():
            values[name][batch.places] = (
                [score.score_frame(seen[i : i + 1]) for i in range(len(seen))]
                if score.windowed else score.score(seen)
            )

    each(batches(classifier, source, progress, what, workers=workers), take)
    for score in scores.values():
        score.forget()
    return values, predicted


def digests_of(
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'reading the images',
    *,
    workers: int | None = None,
) -> list[bytes]:
    """Return a checksum of each image's pixels, in order; all else is as for ``batches``."""
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
    """Yield batches before the network, in order, while others are being decoded."""
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
    """Have a batch decoded."""
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
