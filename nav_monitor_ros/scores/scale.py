"""Energy after scaling the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.energy import free_energy
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option

_LARGEST = 50.0  # exponent at which the scale is cut, for features without a positive sum


@dataclass(frozen=True)
class ScaleOptions:
    """Options of ``scale``."""

    percentile: float = option(
        0.85, 'Fraction of the features (the smallest ones) that are left out of s2. The features '
        'are multiplied by exp(s1 / s2), where s1 is the sum of all features and s2 the sum of the '
        'remaining ones.', low=0, below=1,
    )


class Scale(Score):
    """Free energy of the logits of ``features * exp(s1 / s2)``.

    s1 is the sum of all features, s2 the sum without the smallest ones, a fraction ``percentile``.
    The more neurons the activation is spread over, the larger is s1 / s2.
    Needs non-negative features (N, D) and the head's weights (C, D); O(C D) per frame.
    Source: Xu et al., Scaling for Training Time and Post-hoc Out-of-distribution Detection
    Enhancement, ICLR 2024 (percentile 0.85).
    """

    name = 'scale'
    evidence_kind = EvidenceKind.LOGITS
    extends = 'energy'
    options_type = ScaleOptions
    options: ScaleOptions

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Check that the features are non-negative."""
        if (self._require_head().entering(sample.features) < 0).any():
            raise NotApplicableError(
                f'{self.name}: is defined for non-negative features, and those of this layer are '
                'not; leave this score out (--scores)'
            )

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        head = self._require_head()
        entering = head.entering(batch.features)
        count = entering.shape[1] - round(entering.shape[1] * self.options.percentile)
        largest = np.partition(entering, -count, axis=1)[:, -count:] if count else entering[:, :0]
        shaped, kept = self._shape(entering, largest)
        total = entering.sum(axis=1)
        ratio = np.where(total < _LARGEST * kept, total / np.where(kept > 0, kept, 1.0), _LARGEST)
        return free_energy(head.logits(shaped * np.exp(ratio)[:, None].astype(np.float32)))

    def _shape(
        self, entering: np.ndarray, largest: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the features to scale, (N, D), and s2, (N,); ``largest`` is (N, k)."""
        return entering, largest.sum(axis=1)
