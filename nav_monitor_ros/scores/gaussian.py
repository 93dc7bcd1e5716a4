"""A Gaussian for each class and neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import classes_have
from nav_monitor_ros.scores.class_moments_score import ClassMomentsScore
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class GaussianOptions:
    """Options of ``gaussian``."""

    floor: float = option(
        0.01, 'Smallest variance of a neuron, as a fraction of the mean variance.', above=0
    )


class Gaussian(ClassMomentsScore):
    """Negative log-likelihood of the features under the predicted class's Gaussians.

    ``sum_i 0.5 * ((f_i - mean_ci)^2 / var_ci + log(2 pi var_ci / v))`` with c the predicted class
    and neurons taken as independent. Means and variances are those of the correctly classified
    training images; v, the mean over classes and neurons of the variances, is the unit, so that the
    score does not depend on that of the features. A variance below ``floor`` times the mean
    variance of all neurons is raised to that, so that a neuron that was constant in training has a
    large but finite weight. Classes without a correctly classified image use the Gaussian of all of
    them.

    Needs features (N, D); O(D) per frame. Source: the Gaussian naive Bayes likelihood.
    """

    name = 'gaussian'
    evidence_kind = EvidenceKind.FEATURES
    options_type = GaussianOptions
    options: GaussianOptions

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        # int64 (C,), float64 (C, D) twice and (C,), after ``finish``
        self.count: np.ndarray = np.zeros(0, np.int64)
        self.mean: np.ndarray = np.zeros((0, width))
        self.variance: np.ndarray = np.ones((0, width))
        self._log_norm = np.zeros(0)

    def finish(self) -> None:
        """Turn sums into means and variances."""
        self.count = self._moments.count
        if not self.count.any():
            raise self._nothing_correct()
        variance, pooled = self._moments.variance()
        # Constant features have no scale: the unit is then that of the features.
        lowest = self.options.floor * (float(pooled.mean()) or 1.0)
        self.mean = self._moments.mean().astype(np.float32).astype(np.float64)
        self.variance = np.maximum(variance, lowest).astype(np.float32).astype(np.float64)
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        predicted = batch.predicted
        deviation = batch.features - self.mean[predicted]
        quadratic = (deviation**2 * self._half_precision[predicted]).sum(axis=1)
        return quadratic + self._log_norm[predicted]

    def z_scores(self, features: np.ndarray, predicted: int) -> np.ndarray:
        """Return (f - mean) / standard deviation of one frame's features, float64 (D,)."""
        return (features - self.mean[predicted]) / np.sqrt(self.variance[predicted])

    def tensors(self) -> dict[str, np.ndarray]:
        """Return counts, means and variances."""
        return {
            'count': self.count,
            'mean': self.mean.astype(np.float32),
            'variance': self.variance.astype(np.float32),
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load counts, means and variances."""
        self.count = self._checked_array(tensors, 'count', (self.classes,), kind='i')
        shape = (self.classes, self.width)
        self.mean = self._checked_array(tensors, 'mean', shape).astype(np.float64)
        self.variance = self._checked_array(tensors, 'variance', shape).astype(np.float64)
        if not (self.variance > 0).all():
            raise self._inconsistent()
        self._precompute()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """Name the classes without their own Gaussian."""
        few = np.flatnonzero(self.count < 2)
        if not len(few):
            return []
        return [
            f'{self.name}: {classes_have(few, class_names)} fewer than 2 '
            'correctly classified images, so the pooled variance is used'
        ]

    def _precompute(self) -> None:
        self._half_precision = 0.5 / self.variance
        unit = self.variance.mean()
        self._log_norm = 0.5 * np.log(2 * np.pi * self.variance / unit).sum(axis=1)
