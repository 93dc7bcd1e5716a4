"""Boxes around clusters of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score, classes_have, correctly_classified
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.moments import ClassMoments
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class BoxOptions:
    """Options of ``box``."""

    clusters: int = option(4, 'Largest number of boxes per class.', low=1, high=1000)


class Box(Score):
    """Distance of the features to the nearest box of the predicted class.

    The features of each class's correctly classified training images are clustered by k-means, and
    the smallest axis-parallel box around each cluster is stored. A frame inside a box of its
    predicted class has score 0, any other frame the smallest Euclidean distance to such a box, each
    neuron in units of its standard deviation over all correctly classified images. The source only
    distinguishes inside from outside. The centres of the clusters come from the sample that
    ``prepare`` gets, the boxes from all images. A class without images has one box around the
    images of all classes.

    Needs features (N, D); O(K D) per frame for K clusters.
    Source: Henzinger, Lukina and Schilling, Outside the Box, ECAI 2020.
    """

    name = 'box'
    evidence_kind = EvidenceKind.FEATURES
    options_type = BoxOptions
    options: BoxOptions
    _sample_attributes = ('_moments.origin', '_centres')
    _stream_attributes = ('_moments.count', '_moments.sum', '_moments.squares', 'low', 'high')

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self._shape = (classes, self.options.clusters, width)
        self._moments = ClassMoments(1, width)
        self.scale: np.ndarray = np.ones(0, np.float32)
        self._without_images: np.ndarray = np.zeros(0, np.int64)

    # Allocated with the first image: a bundle may claim any size.
    @cached_property
    def _centres(self) -> np.ndarray:
        return np.full(self._shape, np.inf)

    @cached_property
    def low(self) -> np.ndarray:
        """Smallest features in each box, float32 (C, K, D)."""
        return np.full(self._shape, np.inf, np.float32)

    @cached_property
    def high(self) -> np.ndarray:
        """Largest features in each box, float32 (C, K, D)."""
        return np.full(self._shape, -np.inf, np.float32)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Cluster each class's part of the sample."""
        from sklearn.cluster import KMeans

        self._moments.centre(sample.features)
        self._centres[:, 0] = sample.features.mean(axis=0)  # for classes missing in the sample
        keep = correctly_classified(sample, labels)
        for label in np.unique(labels[keep]):
            rows = _distinct(sample[keep & (labels == label)])
            count = min(self.options.clusters, len(rows))
            means = KMeans(count, n_init=2, random_state=0).fit(rows).cluster_centers_
            self._centres[label, :count] = means

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Widen the boxes by the correctly classified images."""
        keep = correctly_classified(batch, labels)
        features, labels = batch.features[keep], labels[keep]
        self._moments.add(features, np.zeros(len(features), np.int64))
        for label in np.unique(labels):
            rows = features[labels == label]
            distances = np.square(rows[:, None] - self._centres[label]).sum(axis=2)
            nearest = distances.argmin(axis=1)
            np.minimum.at(self.low[label], nearest, rows)
            np.maximum.at(self.high[label], nearest, rows)

    def merge(self, other: Score) -> None:
        """Widen the boxes by those of ``other``."""
        assert isinstance(other, Box)
        self._moments.merge(other._moments)
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)

    def finish(self) -> None:
        """Assign a box to classes without images, and compute the scale of the neurons."""
        if not self._moments.count.any():
            raise self._nothing_correct()
        empty = np.isinf(self.low[:, :, 0])
        alone = empty.all(axis=1)
        low, high = self.low.min(axis=(0, 1)), self.high.max(axis=(0, 1))
        # Empty boxes repeat the first box of the class, so that all classes have the same number.
        for label in range(self.classes):
            if alone[label]:
                self.low[label], self.high[label] = low, high
            else:
                first = int(np.flatnonzero(~empty[label])[0])
                self.low[label, empty[label]] = self.low[label, first]
                self.high[label, empty[label]] = self.high[label, first]
        _, variance = self._moments.variance()
        # Constant features have no scale: the unit is then that of the features.
        typical = float(variance.mean()) or 1.0
        self.scale = np.sqrt(np.maximum(variance, 1e-4 * typical)).astype(np.float32)
        self._without_images = np.flatnonzero(alone)

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        predicted = batch.predicted
        features = batch.features
        best = np.full(len(batch), np.inf)
        for cluster in range(self.options.clusters):
            low, high = self.low[predicted, cluster], self.high[predicted, cluster]
            outside = (features - np.clip(features, low, high)) / self.scale
            best = np.minimum(best, np.square(outside, dtype=np.float64).sum(axis=1))
        return np.sqrt(best)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the boxes and the neurons' scale."""
        return {
            'low': self.low, 'high': self.high, 'scale': self.scale,
            'lonely': self._without_images,
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load the boxes and the neurons' scale."""
        self.low = self._checked_array(tensors, 'low', self._shape)
        self.high = self._checked_array(tensors, 'high', self._shape)
        self.scale = self._checked_array(tensors, 'scale', (self.width,))
        self._without_images = self._checked_array(tensors, 'lonely', (None,), kind='i')
        if not (self.low <= self.high).all() or not (self.scale > 0).all():
            raise self._inconsistent()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """Name the classes without their own boxes."""
        if not len(self._without_images):
            return []
        return [
            f'box: {classes_have(self._without_images, class_names)} no '
            'correctly classified image, so the box around all images is used'
        ]


def _distinct(images: Activations) -> np.ndarray:
    """Return the features of images, each once, (M, D), in an order that is not theirs.

    By the images if these are known: rounding in the network must not change the order.
    """
    if images.image_ids is None:
        return np.unique(images.features, axis=0)
    return images.features[np.unique(images.image_ids, return_index=True)[1]]
