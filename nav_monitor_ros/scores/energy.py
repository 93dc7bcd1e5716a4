"""Free energy of the logits."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score


class Energy(Score):
    """``-log sum_c exp(logit_c)``: small where some class is strongly supported.

    Needs logits (N, C); O(C) a frame. Source: Liu et al., NeurIPS 2020 (temperature 1).
    """

    name = 'energy'

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        logits = batch.logits.astype(np.float64)
        largest = logits.max(axis=1)
        return -(largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)))
