"""Generalised entropy of the softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score


class GeneralisedEntropy(Score):
    """``sum_c p_c^gamma (1 - p_c)^gamma`` over the ``top`` largest softmax probabilities.

    A small gamma makes tiny differences from a one-hot answer count. Needs logits (N, C);
    O(C log C) a frame. Source: Liu, Lochman and Zach, GEN, CVPR 2023 (gamma 0.1, top 100).
    """

    name = 'gen'

    def __init__(
        self,
        *,
        classes: int,
        width: int,
        head: Head | None,
        gamma: float = 0.1,
        top: int = 100,
    ) -> None:
        """Start; ``gamma`` in (0, 1], ``top`` classes at most."""
        super().__init__(classes=classes, width=width, head=head)
        if not 0 < gamma <= 1 or top < 1:
            raise NavMonitorError(
                f'gen: gamma must lie above 0 and at most at 1 and top be at least 1, not {gamma} '
                f'and {top}'
            )
        self.gamma = float(gamma)
        self.top = int(top)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword options."""
        return {'gamma': self.gamma, 'top': self.top}

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        logits = np.sort(batch.logits.astype(np.float64), axis=1)[:, ::-1]
        raised = np.exp(logits - logits[:, :1])
        total = raised.sum(axis=1, keepdims=True)
        # 1 - p as the sum of the others: exact where p rounds to 1.
        others = total - raised
        others[:, 0] = raised[:, 1:].sum(axis=1)
        kept = raised[:, : self.top] * others[:, : self.top] / total**2
        return (kept**self.gamma).sum(axis=1)
