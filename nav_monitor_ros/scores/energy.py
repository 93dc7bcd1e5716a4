"""Free energy of the logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score


class Energy(Score):
    """``-T log sum_c exp(logit_c / T)``: small where some class is strongly supported.

    Needs logits (N, C); O(C) a frame. Source: Liu et al., NeurIPS 2020.
    """

    name = 'energy'

    def __init__(
        self, *, classes: int, width: int, head: Head | None, temperature: float = 1.0
    ) -> None:
        """Start; ``temperature`` is T."""
        super().__init__(classes=classes, width=width, head=head)
        if not temperature > 0:
            raise NavMonitorError(f'energy: temperature must be above 0, not {temperature}')
        self.temperature = float(temperature)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword options."""
        return {'temperature': self.temperature}

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        return self.temperature * free_energy(batch.logits / self.temperature)


def free_energy(logits: np.ndarray) -> np.ndarray:
    """Return ``-log sum_c exp(logit_c)`` of logits (N, C), float64 (N,)."""
    logits = logits.astype(np.float64)
    largest = logits.max(axis=1)
    return -(largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)))
