"""Distance to the decision boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind

MAX_CLASSES = 8192  # 512 MiB of distances


class DecisionBoundaryDistance(Score):
    """Mean distance to the boundaries with the other classes, divided by the distance to the mean.

    ``-1 / (C - 1) * sum_{c != c*} (logit_c* - logit_c) / |w_c* - w_c| / |f - mean|`` with c* the
    predicted class and the mean of all training features. Needs logits (N, C), features (N, D) and
    the head's weights (C, D); O(C + D) per frame.
    Source: Liu and Qin, Fast Decision Boundary based Out-of-Distribution Detector, ICML 2024.
    """

    name = 'fdbd'
    evidence_kind = EvidenceKind.LOGITS
    _stream_attributes = ('_count', '_sum')

    def __init__(self, *, classes: int, width: int, head: Head | None) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head)
        self._count = 0
        self._sum = np.zeros(width)
        self.mean: np.ndarray = np.zeros(width, np.float32)
        self._least = 1.0  # norm below which features equal the mean, apart from rounding

    @cached_property
    def _gaps(self) -> np.ndarray:
        """|w_a - w_b| of all pairs of classes, float64 (C, C)."""
        return _distances(self._require_head().weight)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Check that there are decision boundaries."""
        self._require_head()
        self._require_boundaries()

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        entering = self._require_head().entering(batch.features)
        self._count += len(batch)
        self._sum += entering.sum(axis=0, dtype=np.float64)

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, DecisionBoundaryDistance)
        self._count += other._count
        self._sum += other._sum

    def finish(self) -> None:
        """Compute the mean."""
        if not self._count:
            raise NavMonitorError('fdbd: no training image was seen')
        self.mean = (self._sum / self._count).astype(np.float32)
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        logits = batch.logits.astype(np.float64)
        deviation = self._require_head().entering(batch.features) - self.mean
        norm = np.sqrt(np.square(deviation, dtype=np.float64).sum(axis=1))
        lead = logits.max(axis=1, keepdims=True) - logits
        boundaries = (lead / self._gaps[batch.predicted]).sum(axis=1) / (self.classes - 1)
        return -boundaries / np.maximum(norm, self._least)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the mean."""
        return {'mean': self.mean}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load the mean."""
        self._require_boundaries()
        self.mean = self._checked_array(tensors, 'mean', (self.width,))
        self._precompute()

    def _precompute(self) -> None:
        length = float(np.linalg.norm(self.mean.astype(np.float64)))
        self._least = float(np.finfo(np.float32).eps) * length or 1.0

    def _require_boundaries(self) -> None:
        if self.classes < 2:
            raise NotApplicableError('fdbd: a network of one class has no decision boundary')
        if self.classes > MAX_CLASSES:
            raise NotApplicableError(
                f'fdbd: keeps the distances of all pairs of classes, for at most {MAX_CLASSES}, '
                f'not {self.classes}; leave this score out (--scores)'
            )


def _distances(weight: np.ndarray) -> np.ndarray:
    """Return |w_a - w_b| of all pairs of classes, float64 (C, C), 1 where there is no boundary."""
    weight = weight.astype(np.float64)
    distances = np.stack([np.linalg.norm(weight - row, axis=1) for row in weight])
    return np.where(distances > 0, distances, 1.0)
