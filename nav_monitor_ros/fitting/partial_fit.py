"""State of the scores after part of the training images; it can be merged and resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nav_monitor_ros.bundle.used_images import TrainingImages
from nav_monitor_ros.data.batches import Batch
from nav_monitor_ros.data.image_source import add_fingerprints
from nav_monitor_ros.scores.base import Score

_FINGERPRINT = 32  # bytes


class PartialFit:
    """State of the scores, with a record of the images that were used.

    Apart from eight bytes of each image's checksum, its size does not depend on the number of
    images. Merged states of disjoint parts of a source equal the state of one pass over all of
    them.
    """

    def __init__(self, scores: dict[str, Score]) -> None:
        """Start without images.

        Args:
            scores: Empty or prepared scores.
        """
        self.scores = scores
        self.images = 0
        self.left_out = 0  # images with NaN or infinity
        self.correct = 0  # images that the network classifies correctly
        self._total = 0  # fingerprint of the images
        self._digests: list[np.ndarray] = []  # uint64, one array per batch or part

    @property
    def fingerprint(self) -> int:
        """Return the fingerprint of the images and their labels, independent of their order."""
        return self._total

    def training_images(self) -> TrainingImages:
        """Return the images to which the scores were fitted."""
        return TrainingImages.joined(self._digests)

    def update(self, batch: Batch, labels: np.ndarray | None, fingerprints: Sequence[int]) -> None:
        """Add a batch.

        Args:
            batch: N images, with their checksums.
            labels: int64 (N,), their classes as the network numbers them; None for its own
                predictions.
            fingerprints: Fingerprints of the images with their labels
                (``ImageSource.fingerprint_part``).
        """
        seen = batch.activations
        truth = seen.predicted if labels is None else labels
        self.images += len(seen)
        self.left_out += batch.left_out
        if not len(seen):
            return
        self.correct += int((seen.predicted == truth).sum())
        self._total = add_fingerprints([self._total, *fingerprints])
        self._digests.append(TrainingImages.of(batch.digests).digests)
        for score in self.scores.values():
            score.update(seen, truth)

    @property
    def taken(self) -> int:
        """Return how many images went through the network, including those left out."""
        return self.images + self.left_out

    def merge(self, other: PartialFit) -> None:
        """Merge the state of other images."""
        self.images += other.images
        self.left_out += other.left_out
        self.correct += other.correct
        self._digests += other._digests
        self._total = add_fingerprints([self._total, other._total])
        for name, score in self.scores.items():
            score.merge(other.scores[name])

    def prepared(self) -> dict[str, np.ndarray]:
        """Return the state after ``prepare``, which is the same for all parts."""
        return {
            f'{name}/{key}': array
            for name, score in self.scores.items() for key, array in score.sample_state().items()
        }

    def seen(self) -> dict[str, np.ndarray]:
        """Return the state that depends on the images."""
        total = np.frombuffer(self._total.to_bytes(_FINGERPRINT, 'big'), np.uint8)
        account = {
            'images': np.array(self.images), 'left_out': np.array(self.left_out),
            'correct': np.array(self.correct), 'fingerprint': total,
            'digests': self.training_images().digests,
        }
        return {
            **{f'/{key}': array for key, array in account.items()},
            **{
                f'{name}/{key}': array
                for name, score in self.scores.items()
                for key, array in score.stream_state().items()
            },
        }

    def resume(self, prepared: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray]) -> None:
        """Resume from the results of ``prepared`` and ``seen``; without the latter, start over.

        Raises:
            NavMonitorError: An array is missing.
            KeyError: An array is missing.
        """
        for name, score in self.scores.items():
            score.resume(_part(prepared, name), _part(seen, name))
        if seen:
            account = _part(seen, '')
            self.images, self.correct = int(account['images']), int(account['correct'])
            self.left_out = int(account['left_out'])
            self._digests = [account['digests']]
            self._total = int.from_bytes(account['fingerprint'].tobytes(), 'big')


def _part(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    prefix = f'{name}/'
    return {key[len(prefix):]: t for key, t in tensors.items() if key.startswith(prefix)}
