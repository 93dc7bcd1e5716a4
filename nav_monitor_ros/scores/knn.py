"""Distance to the nearest training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores import bit_packing
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.reservoir import Reservoir
from nav_monitor_ros.scores.score_options import option

_BLOCK = 1 << 24  # similarities per block
_SINGLES = 2  # numbers of single precision in a word


@dataclass(frozen=True)
class KnnOptions:
    """Options of ``knn``."""

    neighbours: int = option(
        10, 'Number k; the score is the distance to the k-th nearest training image.', low=1
    )
    bank: int = option(4096, 'Largest number of stored training images; 0 stores all.', low=0)


class NearestNeighbours(Score):
    """Distance to the k-th nearest training image, features scaled to unit length.

    ``|f / |f| - f_(k) / |f_(k)||`` over a bank of training images: all of them, or the ``bank``
    images with the smallest hashes of their pixels (of their features, if the pixels are unknown),
    a uniform sample that depends neither on the order of the images nor on their distribution over
    machines, nor on rounding in the network.

    Needs features (N, D); O(M D) per frame for a bank of M images.
    Source: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
    """

    name = 'knn'
    evidence_kind = EvidenceKind.FEATURES
    options_type = KnnOptions
    options: KnnOptions

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        # A row is the image's identity, by which the sample is chosen, and its features.
        self._reservoir = Reservoir(
            1 + -(-width // _SINGLES), capacity=self.options.bank, distinct=False, hashed=1
        )
        self.bank: np.ndarray = np.zeros((0, width), np.float32)
        self._precompute()

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        words = _words(_unit(batch.features))
        ids = bit_packing.hashes(words) if batch.image_ids is None else batch.image_ids
        self._reservoir.add(np.column_stack([ids, words]))

    def merge(self, other: Score) -> None:
        """Add the images of ``other``."""
        assert isinstance(other, NearestNeighbours)
        self._reservoir.merge(other._reservoir)

    def stream_state(self) -> dict[str, np.ndarray]:
        """Return the bits of the images stored so far."""
        return {'rows': self._reservoir.rows().view(np.int64)}

    def resume(
        self, sample_state: Mapping[str, np.ndarray], stream_state: Mapping[str, np.ndarray]
    ) -> None:
        """Continue from the stored images."""
        if stream_state:
            self._reservoir.restore(stream_state['rows'].view(np.uint64))

    def finish(self) -> None:
        """Close the bank."""
        words = np.ascontiguousarray(self._reservoir.rows()[:, 1:])
        self.bank = np.ascontiguousarray(words.view(np.float32)[:, : self.width])
        if not len(self.bank):
            raise NavMonitorError('knn: no training image was seen')
        self._precompute()

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        points = _unit(batch.features)
        k = min(self.options.neighbours, len(self.bank))
        block = max(1, _BLOCK // len(self.bank))
        return np.concatenate(
            [np.zeros(0)]
            + [
                _kth_distance(points[i : i + block], self.bank, self._squares, k)
                for i in range(0, len(points), block)
            ]
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the bank."""
        return {'bank': self.bank}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load the bank."""
        self.bank = self._checked_array(tensors, 'bank', (None, self.width))
        if not len(self.bank):
            raise self._inconsistent()
        self._precompute()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """State the size of the bank."""
        asked, kept = self.options.neighbours, len(self.bank)
        fewer = f', instead of {asked} as requested' if asked > kept else ''
        return [f'knn: distance to neighbour {min(asked, kept)} of {kept} images{fewer}']

    def _precompute(self) -> None:
        self._squares = np.square(self.bank).sum(axis=1)


def _unit(features: np.ndarray) -> np.ndarray:
    """Return features (N, D) scaled to length 1, float32; zero stays zero."""
    norm = np.sqrt(np.square(features, dtype=np.float64).sum(axis=1, keepdims=True))
    return (features / np.where(norm > 0, norm, 1.0)).astype(np.float32)


def _words(rows: np.ndarray) -> np.ndarray:
    """Return the bits of float32 rows (N, D) as words, uint64 (N, W)."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // _SINGLES) * _SINGLES), np.float32)
    padded[:, : rows.shape[1]] = rows
    return padded.view(np.uint64)


def _kth_distance(
    points: np.ndarray, bank: np.ndarray, bank_squares: np.ndarray, k: int
) -> np.ndarray:
    squares = bank_squares - 2 * (points @ bank.T)
    nearest = np.argpartition(squares, k - 1, axis=1)[:, :k]
    # Again as a difference: nearby points lose their digits in the difference of squares.
    away = points[:, None] - bank[nearest]
    return np.sqrt(np.square(away, dtype=np.float64).sum(axis=2).max(axis=1))
