"""Importance of the filters of a convolution, and the accuracy without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.gradients import Differentiable

MOST_FIRST, LEAST_FIRST, RANDOM = ORDERS = (
    'most important first', 'least important first', 'random order',
)
_POINTS = 17  # largest number of points of a curve


@dataclass(frozen=True)
class Ablation:
    """Accuracy against the number of filters that are zeroed."""

    importance: np.ndarray  # float64 (filters,), see ``ablate``
    zeroed: np.ndarray  # int64 (points,), number of zeroed filters
    accuracy: Mapping[str, np.ndarray]  # order, one of ORDERS -> float64 (points,)
    images: tuple[int, int]  # number of images for importance and for accuracy

    @property
    def ranking(self) -> np.ndarray:
        """Return the filters by decreasing importance, int64 (filters,)."""
        return np.argsort(-self.importance, kind='stable')


def ablate(
    network: Differentiable,
    images: np.ndarray,
    labels: np.ndarray,
    layer: str,
    *,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Ablation:
    """Rank the filters of a convolution, and zero increasing numbers of them in three orders.

    The importance of a filter is the mean over images of ``Differentiable.filter_importance`` for
    the image's class. Every second image is used for it, the others for the accuracy.

    Args:
        network: Network to examine.
        images: (N, channels, height, width), at least two.
        labels: int64 (N,), the classes.
        layer: Name or number of a convolution.
        seed: Random seed for the random order.
        progress: Called with the stage, the number of images done and the total.

    Raises:
        NavMonitorError: The layer is not a convolution, or there are too few images.
    """
    if len(images) < 2:
        raise NavMonitorError('importance and accuracy need at least two images')
    name = network.convolution(layer).name
    owed = network.filter_importance(images[::2], labels[::2], name)
    # NaN cannot be ranked; it comes first so that it is noticed.
    importance = np.nan_to_num(owed.mean(axis=0, dtype=np.float64), nan=np.inf)
    filters = len(importance)
    most = np.argsort(-importance, kind='stable')
    shuffled = np.random.default_rng(seed).permutation(filters)
    orders = dict(zip(ORDERS, (most, most[::-1], shuffled), strict=True))
    counts = np.unique(np.linspace(0, filters, min(_POINTS, filters + 1)).round().astype(int))
    accuracy = {order: np.zeros(len(counts)) for order in ORDERS}
    for number, count in enumerate(counts):
        for order, ranked in orders.items():
            logits = network.predict(images[1::2], name, ranked[:count].tolist())
            accuracy[order][number] = (logits.argmax(axis=1) == labels[1::2]).mean()
        progress('zeroing filters', number + 1, len(counts))
    return Ablation(importance, counts, accuracy, (len(images[::2]), len(images[1::2])))
