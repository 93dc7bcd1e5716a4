"""Base class of scores fitted to the class means of correctly classified images."""

from __future__ import annotations

from typing import Any

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score, correctly_classified
from nav_monitor_ros.scores.moments import ClassMoments


class ClassMomentsScore(Score):
    """A score that is fitted to the features of the correctly classified images of each class."""

    _sample_attributes = ('_moments.origin',)
    _stream_attributes = ('_moments.count', '_moments.sum', '_moments.squares')

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self._moments = ClassMoments(classes, width)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Choose the origin of the sums, which preserves their precision."""
        self._moments.centre(sample.features)

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add the correctly classified images to the sums of their classes."""
        keep = correctly_classified(batch, labels)
        self._moments.add(batch.features[keep], labels[keep])

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, type(self))
        self._moments.merge(other._moments)
