"""Similarity to the mean features of the predicted class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.class_moments_score import ClassMomentsScore
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


class SimplifiedHopfieldEnergy(ClassMomentsScore):
    """``-features . mean_c / u``, with c the predicted class and the mean over its correct images.

    The unit u is the mean over the classes of ``|mean_c|^2``, so that the score does not depend on
    that of the features.
    Needs features (N, D); O(D) per frame. Source: Zhang et al., Out-of-Distribution Detection based
    on In-Distribution Data Patterns Memorization with Modern Hopfield Energy, ICLR 2023.
    """

    name = 'she'
    evidence_kind = EvidenceKind.FEATURES

    def __init__(self, *, classes: int, width: int, head: Head | None) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head)
        self.mean: np.ndarray = np.zeros((0, width), np.float32)  # (C, D)
        self._unit = 1.0

    def finish(self) -> None:
        """Turn sums into means; a class without images has the mean of all."""
        if not self._moments.count.any():
            raise self._nothing_correct()
        self.mean = self._moments.mean().astype(np.float32)
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        products = (batch.features * self.mean[batch.predicted]).sum(axis=1, dtype=np.float64)
        return -products / self._unit

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the means."""
        return {'mean': self.mean}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load the means."""
        self.mean = self._checked_array(tensors, 'mean', (self.classes, self.width))
        self._precompute()

    def _precompute(self) -> None:
        self._unit = float(np.square(self.mean, dtype=np.float64).sum(axis=1).mean()) or 1.0
