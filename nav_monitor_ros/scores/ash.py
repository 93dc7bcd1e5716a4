"""Energy after pruning and scaling the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.scale import Scale, ScaleOptions
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class AshOptions(ScaleOptions):
    """Options of ``ash``."""

    percentile: float = option(
        0.65, 'Fraction of the features (the smallest ones) that are set to 0.', low=0, below=1
    )


class ActivationShaping(Scale):
    """Free energy of the logits of only the largest features, times ``exp(s1 / s2)``.

    The smallest features, a fraction ``percentile``, are set to 0; s1 is the sum of the features
    before that, s2 after. All features equal to the smallest kept one are kept.
    Needs non-negative features (N, D) and the head's weights (C, D); O(C D) per frame.
    Source: Djurisic et al., Extremely Simple Activation Shaping, ICLR 2023, variant ASH-S
    (percentile 0.65).
    """

    name = 'ash'
    evidence_kind = EvidenceKind.LOGITS
    options_type = AshOptions
    options: AshOptions

    def _shape(
        self, entering: np.ndarray, largest: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if not largest.shape[1]:
            return np.zeros_like(entering), np.zeros(len(entering))
        pruned = np.where(entering >= largest.min(axis=1, keepdims=True), entering, 0)
        return pruned, pruned.sum(axis=1)
