"""Energy after clipping the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.energy import free_energy
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class ReactOptions:
    """Options of ``react``."""

    quantile: float = option(
        0.9, 'Quantile of the training features at which features are clipped.', above=0, high=1
    )


class React(Score):
    """Free energy of the logits of ``min(features, c)``, where c is a quantile of all features.

    Out-of-distribution images often excite a few neurons far more than training images do, which
    results in large logits; clipping prevents it. c is the ``quantile`` over images and neurons of
    the sample that ``prepare`` gets.
    Needs features (N, D) and the head's weights (C, D); O(C D) per frame.
    Source: Sun, Guo and Li, ReAct, NeurIPS 2021 (quantile 0.9).
    """

    name = 'react'
    evidence_kind = EvidenceKind.LOGITS
    extends = 'energy'
    options_type = ReactOptions
    options: ReactOptions
    _sample_attributes = ('clip',)

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self.clip = np.array([np.inf], np.float32)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Set the clipping value."""
        entering = self._require_head().entering(sample.features)
        self.clip = np.array([np.quantile(entering, self.options.quantile)], np.float32)

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        head = self._require_head()
        return free_energy(head.logits(np.minimum(head.entering(batch.features), self.clip)))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the clipping value."""
        return {'clip': self.clip}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load the clipping value."""
        self.clip = self._checked_array(tensors, 'clip', (1,))
