"""Mahalanobis distance to the classes, minus that to all images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.mahalanobis import Mahalanobis
from nav_monitor_ros.scores.moments import is_symmetric, whitened, whitening


class RelativeMahalanobis(Mahalanobis):
    """Mahalanobis distance to the nearest class, minus that to all training images together.

    ``min_c M_c(f) - M_0(f)``, where M_0 uses the mean and covariance of the images of all classes:
    directions in which all images vary do not distinguish classes, and cancel out.
    Needs features (N, D); O(D^2 + C D) per frame, tensors of 2 D^2 + C D numbers.
    Source: Ren et al., A Simple Fix to Mahalanobis Distance, 2021 (arXiv:2106.09022).
    """

    name = 'relative_mahalanobis'
    evidence_kind = EvidenceKind.FEATURES

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        # (D, D), whitens all images
        self.background: np.ndarray = np.zeros((0, width), np.float32)

    def finish(self) -> None:
        """Turn sums into means and the whitening matrices."""
        super().finish()
        about_mean = self._scatter.about(self._scatter.mean())
        self.background = whitening(about_mean, self.options.shrinkage)

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        whole = whitened(batch.features - self.centre, self.background)
        return super().score(batch) - np.square(whole, dtype=np.float64).sum(axis=1)

    def degeneracy(self) -> str:
        """Return why the score carries no information: both distances are equal."""
        if len(self.means) > 1:
            return ''
        return 'the training images have one class, whose distance equals that to all images'

    def tensors(self) -> dict[str, np.ndarray]:
        """Return means and both whitening matrices."""
        return {**super().tensors(), 'background': self.background}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load means and both whitening matrices."""
        super().restore(tensors)
        self.background = self._checked_array(tensors, 'background', (self.width, self.width))
        if not is_symmetric(self.background):
            raise self._inconsistent()
