"""Maximum softmax probability."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


class MaximumSoftmaxProbability(Score):
    """``-max_c log softmax(logits)_c``: the uncertainty of the classifier about its own choice.

    Monotone in 1 - max softmax, but resolves values that round to 0 there. Needs logits
    (N, C); O(C) per frame. Source: Hendrycks and Gimpel, ICLR 2017.
    """

    name = 'msp'
    evidence_kind = EvidenceKind.LOGITS

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        logits = np.sort(batch.logits.astype(np.float64), axis=1)
        # log1p of the sum of the other classes: it is not lost where the largest one rounds to 1.
        return np.log1p(np.exp(logits[:, :-1] - logits[:, -1:]).sum(axis=1))
