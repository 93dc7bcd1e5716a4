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
        shifted = batch.logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        return np.log(np.exp(shifted).sum(axis=1))
