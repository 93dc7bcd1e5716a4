"""Generalised entropy of the softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class GenOptions:
    """Options of ``gen``."""

    gamma: float = option(0.1, 'Exponent of the entropy.', above=0, high=1)
    top: int = option(100, 'Number of the most probable classes that are used.', low=1)


class GeneralisedEntropy(Score):
    """``sum_c p_c^gamma (1 - p_c)^gamma`` over the ``top`` largest softmax probabilities.

    With a small gamma even tiny deviations from a one-hot distribution count. Needs logits (N, C);
    O(C log C) per frame. Source: Liu, Lochman and Zach, GEN, CVPR 2023 (gamma 0.1, top 100).
    """

    name = 'gen'
    evidence_kind = EvidenceKind.LOGITS
    options_type = GenOptions
    options: GenOptions

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        logits = np.sort(batch.logits.astype(np.float64), axis=1)[:, ::-1]
        raised = np.exp(logits - logits[:, :1])
        total = raised.sum(axis=1, keepdims=True)
        # 1 - p as the sum of the others: exact where p rounds to 1.
        others = total - raised
        others[:, 0] = raised[:, 1:].sum(axis=1)
        kept = raised[:, : self.options.top] * others[:, : self.options.top] / total**2
        return (kept**self.options.gamma).sum(axis=1)
