"""Binary activation patterns and their Hamming distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores import bit_packing
from nav_monitor_ros.scores.base import Score, classes_have, correctly_classified
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.pattern_search import MIN_INDEXED, PatternSearch
from nav_monitor_ros.scores.reservoir import Reservoir
from nav_monitor_ros.scores.score_options import option
from nav_monitor_ros.scores.thresholds import RULES, choose_thresholds, describe_rule

_CHUNK_WORDS = 1 << 22  # XOR table of one block of queries, 32 MiB
MAX_PATTERNS = 10_000  # default number of patterns kept per class


@dataclass(frozen=True)
class PatternOptions:
    """Options of ``pattern``."""

    threshold: str = option(
        'auto', 'Rule for the value above which a neuron is on.', choices=RULES
    )
    quantile: float = option(
        0.5, 'Quantile of each neuron over the training sample, where quantiles are used.',
        above=0, below=1,
    )
    select: float = option(
        0.0, 'A neuron is monitored for a class if its absolute weight in the last layer exceeds '
        "this share of the class's largest one; 0 monitors all.", low=0, below=1,
    )
    gamma: int = option(0, 'Largest distance in bits at which a frame counts as known.', low=0)
    max_patterns: int = option(
        MAX_PATTERNS, 'Largest number of stored patterns per class; 0 stores all.', low=0
    )


class Pattern(Score):
    """Smallest Hamming distance to an on/off pattern that the predicted class had in training.

    A monitored neuron is on where its feature exceeds the neuron's threshold. For each class the
    patterns of its correctly classified training images are stored; the score is the distance in
    bits between the pattern of the frame and the nearest stored pattern of the predicted class. A
    frame is known if its distance is at most ``gamma``, else out of pattern. Neurons are chosen for
    each class by the head's weights: neuron i counts for class c if
    ``|w_ci| > select * max_j |w_cj|``; ``select = 0`` monitors all. A class without a stored
    pattern gives one bit more than the largest distance possible.

    Thresholds are 0 for pre-activations and plain ReLU features (``zero``). After global average
    pooling of ReLU maps every feature is positive and a pattern at 0 carries no information; there
    the ``quantile`` of each neuron over the training sample is used. ``auto`` chooses between them.

    Needs features (N, D), and the head's weights (C, D) where ``select`` is above 0. Patterns are
    packed; a frame costs one XOR and popcount over the predicted class's patterns,
    O(P_c * D / 64), or a table look-up where there are very many (``pattern_search.py``). A
    class with more than ``max_patterns`` patterns keeps a uniform sample of them, so that the cost
    of fitting and judging is independent of the number of images.
    Source: Cheng, Nuehrenberg and Yasuoka, DATE 2019.
    """

    name = 'pattern'
    evidence_kind = EvidenceKind.FEATURES
    options_type = PatternOptions
    options: PatternOptions
    _sample_attributes = ('thresholds', '_on_rate')

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start empty.

        Args:
            classes: C, the number of classes.
            width: D, the number of monitored neurons.
            head: The head's weights on the monitored features, if they act on them.
            options: Fields of ``PatternOptions``.

        Raises:
            NavMonitorError: An option is out of range, or ``select`` lacks the head's weights.
        """
        super().__init__(classes=classes, width=width, head=head, **options)
        if self.options.select and head is None:
            raise NavMonitorError(
                'pattern: select chooses neurons by the weights of the last layer, which do not '
                'act on the monitored layer; monitor the penultimate layer or leave select at 0'
            )
        self.thresholds: np.ndarray = np.zeros(0, np.float32)  # (D,)
        words = -(-width // bit_packing.WORD)
        self.patterns: np.ndarray = np.zeros((0, words), np.uint64)  # (P, words), by class
        # class c's rows: offsets[c]:offsets[c + 1]
        self.offsets: np.ndarray = np.zeros(0, np.int64)
        self._on_rate: np.ndarray = np.zeros(0)

    # Allocated with the first image: a bundle may claim any size.
    @cached_property
    def monitored(self) -> np.ndarray:
        """Which neurons count for each class, bool (C, D)."""
        return self._choose_neurons()

    @cached_property
    def _mask(self) -> np.ndarray:
        return bit_packing.pack(self.monitored)

    @cached_property
    def _monitored_count(self) -> np.ndarray:
        return self.monitored.sum(axis=1)

    @cached_property
    def _reservoirs(self) -> list[Reservoir]:
        words = -(-self.width // bit_packing.WORD)
        return [
            Reservoir(words, capacity=self.options.max_patterns, distinct=True)
            for _ in range(self.classes)
        ]

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Set the thresholds.

        Raises:
            NavMonitorError: The threshold is ``zero`` where that carries no information, or the
                layer is constant.
        """
        self.thresholds = choose_thresholds(
            self.name, sample.features, self.options.threshold, self.options.quantile
        )
        self._on_rate = (sample.features > self.thresholds).mean(axis=0)

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Store the patterns of the correctly classified images."""
        keep = correctly_classified(batch, labels)
        words = self._words(batch.features[keep], labels[keep])
        for label in np.unique(labels[keep]):
            self._reservoirs[label].add(words[labels[keep] == label])

    def merge(self, other: Score) -> None:
        """Add the patterns of ``other``."""
        assert isinstance(other, Pattern)
        for mine, theirs in zip(self._reservoirs, other._reservoirs, strict=True):
            mine.merge(theirs)

    def stream_state(self) -> dict[str, np.ndarray]:
        """Return the patterns stored so far, class by class."""
        rows = [stored.rows() for stored in self._reservoirs]
        return {
            'rows': np.concatenate(rows).view(np.int64), 'counts': np.array([len(r) for r in rows])
        }

    def resume(
        self, sample_state: Mapping[str, np.ndarray], stream_state: Mapping[str, np.ndarray]
    ) -> None:
        """Continue from thresholds and patterns."""
        super().resume(sample_state, {})
        if stream_state:
            ends = np.cumsum(stream_state['counts'])
            parts = np.split(stream_state['rows'].view(np.uint64), ends[:-1])
            for stored, rows in zip(self._reservoirs, parts, strict=True):
                stored.restore(rows)

    def finish(self) -> None:
        """Sort the stored patterns and drop duplicates."""
        distinct = [stored.rows() for stored in self._reservoirs]
        self.patterns = np.concatenate(distinct)
        self.offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in distinct])])
        if not len(self.patterns):
            raise self._nothing_correct()
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return each image's distance in bits, float64 (N,)."""
        predicted = batch.predicted
        queries = self._words(batch.features, predicted)
        distances = np.empty(len(batch), np.int64)
        for label in np.unique(predicted):
            rows = np.flatnonzero(predicted == label)
            distances[rows] = self._smallest(queries[rows], int(label))
        return distances.astype(np.float64)

    def score_frame(self, frame: Activations) -> float:
        """Return one image's distance in bits."""
        label = int(frame.predicted[0])
        if self.offsets[label] == self.offsets[label + 1]:
            return float(self._monitored_count[label] + 1)
        return float(self._nearest(self._query(frame.features[0], label), label)[1])

    def out_of_pattern(self, batch: Activations) -> np.ndarray:
        """Return which images are farther than ``gamma`` from every stored pattern, bool (N,)."""
        return self.score(batch) > self.options.gamma

    def nearest(self, features: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Compare one frame with the nearest stored pattern of a class.

        Args:
            features: float32 (D,).
            label: The predicted class.

        Returns:
            The frame's bits and the nearest pattern's, bool (D,) each, 0 where the neuron is not
            monitored for this class, and their distance. Without any stored pattern the nearest
            one is all off.
        """
        query = self._query(features, label)
        pattern = bit_packing.unpack(query, self.width)
        if self.offsets[label] == self.offsets[label + 1]:
            return pattern, np.zeros(self.width, bool), int(self._monitored_count[label]) + 1
        row, distance = self._nearest(query, label)
        return pattern, bit_packing.unpack(self.patterns[row], self.width), distance

    def tensors(self) -> dict[str, np.ndarray]:
        """Return thresholds, selected neurons and packed patterns."""
        return {
            'thresholds': self.thresholds,
            'monitored': np.packbits(self.monitored, axis=1, bitorder='little'),
            'patterns': self.patterns.view(np.int64),  # safetensors readers know int64 everywhere
            'offsets': self.offsets,
            'on_rate': self._on_rate.astype(np.float32),
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load thresholds, selected neurons and packed patterns."""
        self.thresholds = self._checked_array(tensors, 'thresholds', (self.width,))
        self._on_rate = self._checked_array(tensors, 'on_rate', (self.width,)).astype(np.float64)
        packed = self._checked_array(
            tensors, 'monitored', (self.classes, -(-self.width // 8)), kind='u'
        )
        self.monitored = np.unpackbits(
            packed, axis=1, count=self.width, bitorder='little'
        ).astype(bool)
        self._mask = bit_packing.pack(self.monitored)
        self._monitored_count = self.monitored.sum(axis=1)
        stored = self._checked_array(tensors, 'patterns', (None, self.patterns.shape[1]), kind='i')
        self.patterns = np.ascontiguousarray(stored, np.int64).view(np.uint64)
        self.offsets = self._checked_array(tensors, 'offsets', (self.classes + 1,), kind='i')
        valid = (
            self.offsets[0] == 0
            and self.offsets[-1] == len(self.patterns)
            and bool((np.diff(self.offsets) >= 0).all())
        )
        if not valid:
            raise self._inconsistent()
        self._precompute()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """Name the thresholds, and the classes and neurons without information."""
        counts = np.diff(self.offsets)
        rule = describe_rule(self.thresholds, self.options.threshold, self.options.quantile)
        lines = [
            f'pattern: {counts.sum()} patterns ({counts.min()} to {counts.max()} per class) over '
            f'{self._some_neurons()}; a neuron is {rule}'
        ]
        constant = int(((self._on_rate == 0) | (self._on_rate == 1)).sum())
        if constant:
            lines.append(f'pattern: {constant} neurons never changed over the training sample')
        if not counts.all():
            lines.append(
                f'pattern: {classes_have(np.flatnonzero(counts == 0), class_names)} no '
                'pattern; every frame predicted as such a class is out of pattern'
            )
        return lines

    def _some_neurons(self) -> str:
        low, high = self._monitored_count.min(), self._monitored_count.max()
        if low == self.width:
            return f'all {self.width} neurons'
        return f'{low} to {high} of {self.width} neurons'

    def _choose_neurons(self) -> np.ndarray:
        if not self.options.select or self.head is None:
            return np.ones((self.classes, self.width), bool)
        strength = np.abs(self.head.weight)
        return strength > self.options.select * strength.max(axis=1, keepdims=True)

    def _words(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return bit_packing.pack(features > self.thresholds) & self._mask[labels]

    def _query(self, features: np.ndarray, label: int) -> np.ndarray:
        """Return the pattern of one frame's features (D,), uint64 (words,)."""
        return bit_packing.pack(features > self.thresholds) & self._mask[label]

    def _nearest(self, query: np.ndarray, label: int) -> tuple[int, int]:
        """Return the row of the class's pattern that is nearest, and its distance."""
        start, stop = int(self.offsets[label]), int(self.offsets[label + 1])
        search = self._searches.get(label)
        if search is not None:
            row, distance = search.nearest(query)
            return start + row, distance
        distances = bit_packing.distances(self._columns[:, start:stop], query)
        row = int(distances.argmin())
        return start + row, int(distances[row])

    def _precompute(self) -> None:
        self._columns = np.ascontiguousarray(self.patterns.T)  # word by word, for single frames
        self._searches = {
            int(label): PatternSearch(
                self.patterns[self.offsets[label] : self.offsets[label + 1]], self.width
            )
            for label in np.flatnonzero(np.diff(self.offsets) >= MIN_INDEXED)
        }

    def _smallest(self, queries: np.ndarray, label: int) -> np.ndarray:
        stored = self.patterns[self.offsets[label] : self.offsets[label + 1]]
        if not len(stored):
            return np.full(len(queries), self._monitored_count[label] + 1)
        block = max(1, _CHUNK_WORDS // stored.size)
        return np.concatenate(
            [
                bit_packing.popcount(queries[start : start + block, None] ^ stored).min(axis=1)
                for start in range(0, len(queries), block)
            ]
        )
