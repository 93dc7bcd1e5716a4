"""Largest logit."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


class MaximumLogit(Score):
    """``-max_c logit_c``: small where the evidence for the predicted class is strong.

    Needs logits (N, C); O(C) per frame. Source: Hendrycks et al., Scaling Out-of-Distribution
    Detection for Real-World Settings, ICML 2022.
    """

    name = 'max_logit'
    evidence_kind = EvidenceKind.LOGITS

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        return -batch.logits.max(axis=1).astype(np.float64)
