"""Mahalanobis distance of the features to the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.moments import (
    ClassMoments,
    Scatter,
    is_symmetric,
    require_square,
    whitened,
    whitening,
)
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class MahalanobisOptions:
    """Options of ``mahalanobis``."""

    shrinkage: float = option(
        0.001, 'Weight of the mean variance in the covariance.', above=0, below=1
    )


class Mahalanobis(Score):
    """Smallest squared Mahalanobis distance of the features to a class's mean.

    ``min_c (f - mean_c)^T S^-1 (f - mean_c)`` with the mean of each class's training images and
    their pooled within-class covariance S, shrunk towards its mean variance by ``shrinkage``.
    Needs features (N, D); O(D^2 + C D) per frame, tensors of D^2 + C D numbers.
    Source: Lee et al., A Simple Unified Framework, NeurIPS 2018, without input perturbation.
    """

    name = 'mahalanobis'
    evidence_kind = EvidenceKind.FEATURES
    options_type = MahalanobisOptions
    options: MahalanobisOptions
    _sample_attributes = ('_moments.origin', '_scatter.origin')
    _stream_attributes = (
        '_moments.count', '_moments.sum', '_moments.squares', '_scatter.count', '_scatter.sum',
        '_scatter.products',
    )

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self._moments = ClassMoments(classes, width)
        self._scatter = Scatter(width)
        self.centre: np.ndarray = np.zeros(0, np.float32)  # (D,), mean of all images
        self.whitening: np.ndarray = np.zeros((0, width), np.float32)  # (D, D)
        # whitened, of the classes that have images
        self.means: np.ndarray = np.zeros((0, width), np.float32)
        self._precompute()

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Choose the origin of the sums, which preserves their precision."""
        require_square(self.name, self.width)
        self._moments.centre(sample.features)
        self._scatter.centre(sample.features)

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        self._moments.add(batch.features, labels)
        self._scatter.add(batch.features)

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, Mahalanobis)
        self._moments.merge(other._moments)
        self._scatter.merge(other._scatter)

    def finish(self) -> None:
        """Compute means and the whitening matrix from the sums."""
        if not self._scatter.count:
            raise NavMonitorError(f'{self.name}: no training image was seen')
        self.centre = self._scatter.mean().astype(np.float32)
        present = self._moments.count > 0
        means = self._moments.mean()[present]
        offset = means - self._scatter.mean()
        share = self._moments.count[present] / self._scatter.count
        between = (offset * share[:, None]).T @ offset
        total = self._scatter.about(self._scatter.mean())
        self.whitening = whitening(total - between, self.options.shrinkage)
        self.means = ((means - self.centre) @ self.whitening.T.astype(np.float64)).astype(
            np.float32
        )
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        white = whitened(batch.features - self.centre, self.whitening)
        return self._nearest(white.astype(np.float64))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return means and the whitening matrix."""
        return {'centre': self.centre, 'whitening': self.whitening, 'means': self.means}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load means and the whitening matrix."""
        self.centre = self._checked_array(tensors, 'centre', (self.width,))
        self.whitening = self._checked_array(tensors, 'whitening', (self.width, self.width))
        self.means = self._checked_array(tensors, 'means', (None, self.width))
        if not is_symmetric(self.whitening) or not 0 < len(self.means) <= self.classes:
            raise self._inconsistent()
        self._precompute()

    def _precompute(self) -> None:
        self._points = self.means.astype(np.float64)
        self._squares = np.square(self._points).sum(axis=1)

    def _nearest(self, points: np.ndarray) -> np.ndarray:
        """Return the smallest squared distance of each point (N, D) to a mean, float64 (N,)."""
        distances = self._squares - 2 * (points @ self._points.T)
        return np.maximum(distances.min(axis=1) + np.square(points).sum(axis=1), 0.0)
