"""Likeness to the mean features of the predicted class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score, correctly_classified
from nav_monitor_ros.scores.moments import ClassMoments


class SimplifiedHopfieldEnergy(Score):
    """``-features . mean_c`` with c the predicted class, the mean over its correct images.

    Needs features (N, D); O(D) a frame. Source: Zhang et al., Out-of-Distribution Detection based
    on In-Distribution Data Patterns Memorization with Modern Hopfield Energy, ICLR 2023.
    """

    name = 'she'
    _sample_attributes = ('_moments.origin',)
    _stream_attributes = ('_moments.count', '_moments.sum', '_moments.squares')

    def __init__(self, *, classes: int, width: int, head: Head | None) -> None:
        """Start empty."""
        super().__init__(classes=classes, width=width, head=head)
        self._moments = ClassMoments(classes, width)
        self.mean: np.ndarray = np.zeros((0, width), np.float32)  # (C, D)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Choose the origin of the sums."""
        self._moments.centre(sample.features)

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add the correctly classified images."""
        keep = correctly_classified(batch, labels)
        self._moments.add(batch.features[keep], labels[keep])

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, SimplifiedHopfieldEnergy)
        self._moments.merge(other._moments)

    def finish(self) -> None:
        """Turn sums into means; a class without images has the mean of all."""
        if not self._moments.count.any():
            raise self._nothing_correct()
        self.mean = self._moments.mean().astype(np.float32)

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        return -(batch.features * self.mean[batch.predicted]).sum(axis=1, dtype=np.float64)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the means."""
        return {'mean': self.mean}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take back the means."""
        self.mean = self._checked_array(tensors, 'mean', (self.classes, self.width))
