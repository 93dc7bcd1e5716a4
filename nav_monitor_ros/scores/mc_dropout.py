"""Uncertainty from dropout at run time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option

MAX_PASSES = 1000
MEASURES = ('entropy', 'mutual_information')


@dataclass(frozen=True)
class McDropoutOptions:
    """Options of ``mc_dropout``."""

    count: int = option(50, 'Number of passes with dropout (K).', low=2, high=MAX_PASSES)
    measure: str = option('entropy', 'Measure of uncertainty.', choices=MEASURES)


class MonteCarloDropout(Score):
    """Uncertainty of the class over K passes with active dropout.

    With p_k the softmax of pass k, ``entropy`` is the entropy of the mean of p_k over the passes
    (total uncertainty); ``mutual_information`` is that entropy minus the mean entropy of p_k
    (disagreement between the passes). Layers before the first dropout layer run once, the others K
    times in one batch. The masks are the same for every frame.

    Needs samples (N, K, C); O(K C D) per frame for a single linear layer behind the dropout.
    Source: Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016; Houlsby et al.,
    2011, for the mutual information.
    """

    name = 'mc_dropout'
    evidence_kind = EvidenceKind.LOGITS
    options_type = McDropoutOptions
    options: McDropoutOptions

    @property
    def dropout_passes(self) -> int:
        """Return K."""
        return self.options.count

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Check that the network has passes with dropout."""
        if sample.samples is None:
            raise NotApplicableError(
                'mc_dropout: the network has no dropout layer that can be repeated alone; leave '
                'this score out (--scores)'
            )

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        assert batch.samples is not None  # ``dropout_passes`` asks for them
        raised = np.exp(batch.samples - batch.samples.max(axis=2, keepdims=True))
        probabilities = raised / raised.sum(axis=2, keepdims=True)
        total = _entropy(probabilities.mean(axis=1))
        if self.options.measure == 'entropy':
            return total
        return np.maximum(total - _entropy(probabilities).mean(axis=1), 0.0)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy in nats over the last axis, float64."""
    probabilities = probabilities.astype(np.float64)
    # p log p is 0 where p is 0.
    return -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(axis=-1)
