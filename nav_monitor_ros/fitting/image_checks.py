"""Warnings about images that the network does not seem to know, which a fit cannot mend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from nav_monitor_ros.data.batches import Progress, batches
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.running_network import RunningNetwork

SAMPLE = 200  # images of each kind that are compared
FEWEST = 20  # of them
USUAL = 0.99  # quantile of the training images' distances, above which others are counted
FOREIGN = 0.5  # share of such calibration images from which a warning is due; expected: 0.01
BETTER = 0.3  # gain of the accuracy by another order of the classes that makes it likely
MOST_CLASSES = 2000  # the search takes memory and time of their square and third power
_LISTED = 30  # classes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accuracy:
    """How many labelled images are classified correctly."""

    correct: int
    images: int

    @property
    def share(self) -> float:
        """Return the accuracy, in [0, 1]."""
        return self.correct / self.images


def accuracy_of(labels: np.ndarray, predicted: np.ndarray) -> Accuracy | None:
    """Return the accuracy on the images that have labels; None if there are none.

    Args:
        labels: int64 (N,), the class of each image; negative without one.
        predicted: int64 (N,), the predicted classes.
    """
    known = labels >= 0
    if not known.any():
        return None
    return Accuracy(int((labels == predicted)[known].sum()), int(known.sum()))


def likely_order(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> tuple[tuple[str, ...], float] | None:
    """Return another order of the classes with which many more images are classified correctly.

    The order maximises the number of correct images (Kuhn, 1955).

    Args:
        labels: int64 (N,), the class of each image; negative without one.
        predicted: int64 (N,), the predicted classes.
        class_names: C names, in the order of the network's outputs so far.

    Returns:
        The names in the likely order of the outputs, and the accuracy with it; None if no order
        gains ``BETTER``, or there are more than ``MOST_CLASSES`` classes.
    """
    classes, known = len(class_names), labels >= 0
    now = accuracy_of(labels, predicted)
    if now is None or now.share + BETTER > 1 or classes > MOST_CLASSES:
        return None
    counts = np.zeros((classes, classes), np.int64)  # output, label
    np.add.at(counts, (predicted[known], labels[known]), 1)
    outputs, order = linear_sum_assignment(counts, maximize=True)
    accuracy = counts[outputs, order].sum() / now.images
    if accuracy < now.share + BETTER:
        return None
    return tuple(class_names[label] for label in order), float(accuracy)


def warn_of_order(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> None:
    """Log a warning if the classes seem to be in another order; as for ``likely_order``."""
    found = likely_order(labels, predicted, class_names)
    if found is None:
        return
    order, accuracy = found
    shown = ', '.join(order[:_LISTED]) + (', ...' if len(order) > _LISTED else '')
    _log.warning(
        'the class names seem to be in the wrong order: %.1f %% of the calibration images would be '
        "classified correctly if the network's outputs were, in this order, %s; give the names in "
        'the order of the outputs (--classes)', 100 * accuracy, shown,
    )


def warn_of_foreign_images(
    classifier: RunningNetwork,
    data: ImageSource,
    calibration: ImageSource,
    *,
    seed: int,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> None:
    """Log a warning if the calibration images do not resemble the training images.

    If they show something else, such as what the robot should be warned of, the monitor takes it
    for normal. Images are compared by the channel means of the watched layers, each in units of its
    spread: one half of some training images gives means and spreads, the other half the usual
    distances from them.

    Args:
        classifier: Network set up to yield what the scores need.
        data: Training images.
        calibration: Calibration images.
        seed: Chooses the images that are compared.
        workers: Threads that read and decode.
        progress: Called with the stage, the number of images done and the total.
    """
    rng = np.random.default_rng([seed, len(data)])

    def described(source: ImageSource, count: int, kind: str) -> np.ndarray:
        """Return the channel means of some images, float64 (N, channels), in random order."""
        rows = np.sort(rng.permutation(len(source))[:count])
        parts = [
            _channels(batch.activations) for batch in batches(
                classifier, source.subset(rows), progress, f'comparing {kind} images',
                workers=workers, invalid=InvalidImages.unchecked(),
            )
        ]
        found = np.concatenate(parts)
        return rng.permutation(found[np.isfinite(found).all(axis=1)])

    trained = described(data, 2 * SAMPLE, 'training')
    held_out = described(calibration, SAMPLE, 'calibration')
    half = len(trained) // 2
    if half < FEWEST or len(held_out) < FEWEST:
        return
    mean, spread = trained[:half].mean(axis=0), trained[:half].std(axis=0)
    moving = spread > 0

    def distances(values: np.ndarray) -> np.ndarray:
        return np.square((values - mean)[:, moving] / spread[moving]).mean(axis=1)

    if not moving.any():
        return
    share = float((distances(held_out) > np.quantile(distances(trained[half:]), USUAL)).mean())
    if share > FOREIGN:
        _log.warning(
            'the calibration images do not resemble the training images: by the outputs of the '
            'early layers, %.0f %% of them are more unusual than 99 %% of the training images. The '
            'monitor takes for normal what they show; give held-out images of the same kind as the '
            'training images (--calibration)', 100 * share,
        )


def _channels(seen: Activations) -> np.ndarray:
    means = list(seen.means.values()) or [seen.features]
    return np.concatenate(means, axis=1).astype(np.float64)
