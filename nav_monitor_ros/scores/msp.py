"""Maximum softmax probability."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score


class MaximumSoftmaxProbability(Score):
    """``-max_c log softmax(logits)_c``: how unsure the classifier is of its own choice.

    Monotone in 1 - max softmax, but keeps its resolution where that rounds to 0. Needs logits
    (N, C); O(C) a frame. Source: Hendrycks and Gimpel, ICLR 2017.
    """

    name = 'msp'

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        logits = np.sort(batch.logits.astype(np.float64), axis=1)
        # By log1p of the other classes alone: where the largest one is 1, their sum is still there.
        return np.log1p(np.exp(logits[:, :-1] - logits[:, -1:]).sum(axis=1))
