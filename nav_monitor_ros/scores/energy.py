"""Free energy of the logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option


@dataclass(frozen=True)
class EnergyOptions:
    """Options of ``energy``."""

    temperature: float = option(1.0, 'Temperature of the softmax (T).', above=0)


class Energy(Score):
    """``-T log sum_c exp(logit_c / T)``: small where the evidence for some class is strong.

    Needs logits (N, C); O(C) per frame. Source: Liu et al., NeurIPS 2020.
    """

    name = 'energy'
    evidence_kind = EvidenceKind.LOGITS
    options_type = EnergyOptions
    options: EnergyOptions

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        return self.options.temperature * free_energy(batch.logits / self.options.temperature)


def free_energy(logits: np.ndarray) -> np.ndarray:
    """Return ``-log sum_c exp(logit_c)`` of logits (N, C), float64 (N,)."""
    logits = logits.astype(np.float64)
    largest = logits.max(axis=1)
    return -(largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)))
