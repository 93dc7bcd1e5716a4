"""Probability of the background class."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.energy import free_energy
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


class Decoy(Score):
    """``log p_background``, for a network that was trained with a background class.

    The softmax runs over the classes and the background; the background is never the
    predicted class. Needs logits (N, C) and the background's logit (N,); O(C) per frame.
    Source: the reject class of Hendrycks, Mazeika and Dietterich, Deep Anomaly Detection with
    Outlier Exposure, ICLR 2019 (section 4); ``nav_monitor train --decoy`` makes background images
    only from the training images.
    """

    name = 'decoy'
    evidence_kind = EvidenceKind.LOGITS

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Check that the network has a background class."""
        if sample.background is None:
            raise NotApplicableError(
                'decoy: the network has no background class (--background); leave this score out '
                '(--scores)'
            )

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        assert batch.background is not None  # checked by ``prepare``
        background = batch.background.astype(np.float64)
        # log(e^b / (e^b + sum e^l)) = -log(1 + e^(log sum e^l - b)), without overflow.
        return -np.logaddexp(0.0, -free_energy(batch.logits) - background)
