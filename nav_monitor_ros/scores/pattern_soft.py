"""Likelihood of the on/off pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score, correctly_classified
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import option
from nav_monitor_ros.scores.thresholds import RULES, choose_thresholds, describe_rule


@dataclass(frozen=True)
class SoftPatternOptions:
    """Options of ``pattern_soft``."""

    threshold: str = option('auto', 'As for `pattern`.', choices=RULES)
    quantile: float = option(0.5, 'As for `pattern`.', above=0, below=1)


class SoftPattern(Score):
    """Negative log-likelihood of the on/off pattern under the predicted class's bit rates.

    ``-sum_i log p_ci`` over the neurons that are on and ``-sum_i log(1 - p_ci)`` over those that
    are off, with ``p_ci = (on_ci + 1) / (n_c + 2)`` (Laplace's rule) from the n_c correctly
    classified training images of the predicted class c. The soft form of ``pattern``: a neuron that
    is nearly always on has a large weight when it is off, a neuron that is on half of the time a
    small one. Neurons are assumed to be independent (naive Bayes). A class without images has
    p = 1/2.

    Needs features (N, D); O(D) per frame. Thresholds as for ``pattern`` (Cheng et al., DATE 2019).
    """

    name = 'pattern_soft'
    evidence_kind = EvidenceKind.FEATURES
    options_type = SoftPatternOptions
    options: SoftPatternOptions
    _sample_attributes = ('thresholds',)
    _stream_attributes = ('_count', '_on')

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self.thresholds: np.ndarray = np.zeros(0, np.float32)  # (D,)

    # Allocated with the first image: a bundle may claim any size.
    @cached_property
    def _count(self) -> np.ndarray:
        return np.zeros(self.classes, np.int64)

    @cached_property
    def _on(self) -> np.ndarray:
        return np.zeros((self.classes, self.width), np.int64)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Set the thresholds."""
        self.thresholds = choose_thresholds(
            self.name, sample.features, self.options.threshold, self.options.quantile
        )

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Count the correctly classified images' bits."""
        keep = correctly_classified(batch, labels)
        on = batch.features[keep] > self.thresholds
        np.add.at(self._on, labels[keep], on)
        self._count += np.bincount(labels[keep], minlength=self.classes)

    def merge(self, other: Score) -> None:
        """Add the counts of ``other``."""
        assert isinstance(other, SoftPattern)
        self._count += other._count
        self._on += other._on

    def finish(self) -> None:
        """Compute log-likelihoods from the counts."""
        if not self._count.any():
            raise self._nothing_correct()
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        predicted = batch.predicted
        on = batch.features > self.thresholds
        return self._off_cost[predicted] + (on * self._on_cost[predicted]).sum(axis=1)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return thresholds and counts."""
        return {'thresholds': self.thresholds, 'count': self._count, 'on': self._on}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load thresholds and counts."""
        self.thresholds = self._checked_array(tensors, 'thresholds', (self.width,))
        self._count = self._checked_array(tensors, 'count', (self.classes,), kind='i')
        self._on = self._checked_array(tensors, 'on', (self.classes, self.width), kind='i')
        if (self._on < 0).any() or (self._on > self._count[:, None]).any():
            raise self._inconsistent()
        self._precompute()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """State when a neuron is on."""
        rule = describe_rule(self.thresholds, self.options.threshold, self.options.quantile)
        return [f'pattern_soft: a neuron is {rule}']

    def _precompute(self) -> None:
        rate = (self._on + 1) / (self._count + 2)[:, None]
        self._off_cost = -np.log(1 - rate).sum(axis=1)  # (C,): all neurons off
        self._on_cost = np.log(1 - rate) - np.log(rate)  # (C, D): increment per neuron that is on
