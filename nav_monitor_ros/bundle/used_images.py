"""Checksums of the images on which a monitor was fitted and calibrated."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEPT = 8  # bytes kept of an image's checksum: enough to tell images apart, not to authenticate them


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Checksums of the images to which the scores were fitted, without order."""

    digests: np.ndarray  # uint64 (N,), ascending: the first KEPT bytes of the checksums

    @staticmethod
    def of(digests: Sequence[bytes]) -> TrainingImages:
        """Create from the checksums of images."""
        return TrainingImages.joined([image_ids(digests)])

    @staticmethod
    def joined(parts: Iterable[np.ndarray]) -> TrainingImages:
        """Merge several parts, uint64 (M,) each; duplicates are kept once."""
        return TrainingImages(np.unique(np.concatenate([np.zeros(0, np.uint64), *parts])))

    @staticmethod
    def restored(tensors: Mapping[str, np.ndarray]) -> TrainingImages | None:
        """Restore from ``tensors``, None if nothing was kept.

        Raises:
            ValueError: It is malformed.
        """
        if not tensors:
            return None
        digests = tensors.get('digests')
        if (
            digests is None or digests.dtype != np.uint64 or digests.ndim != 1 or not len(digests)
            or (digests[1:] <= digests[:-1]).any()
        ):
            raise ValueError('the list of its training images is malformed')
        return TrainingImages(digests)

    def __len__(self) -> int:
        """Return N."""
        return len(self.digests)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the state as arrays."""
        return {'digests': self.digests}

    def contain(self, digests: Sequence[bytes]) -> np.ndarray:
        """Return which images are among these, bool (M,), by their checksums."""
        return np.isin(image_ids(digests), self.digests)


def image_ids(digests: Sequence[bytes]) -> np.ndarray:
    """Return the first bytes of checksums as integers, uint64 (N,)."""
    short = b''.join(digest[:KEPT] for digest in digests)
    return np.frombuffer(short, '>u8').astype(np.uint64)


@dataclass(frozen=True, eq=False)
class CalibrationImages:
    """Checksums of the images of a calibration, in order."""

    digests: np.ndarray  # uint8 (N, KEPT), the first bytes of the checksums
    fuses: np.ndarray  # bool (N,): images that fit the fusion; the others calibrate it

    @staticmethod
    def of(digests: Sequence[bytes], fuses: np.ndarray) -> CalibrationImages:
        """Create from the checksums of images."""
        short = b''.join(digest[:KEPT] for digest in digests)
        return CalibrationImages(
            np.frombuffer(short, np.uint8).reshape(-1, KEPT), np.asarray(fuses, bool)
        )

    @staticmethod
    def restored(tensors: Mapping[str, np.ndarray]) -> CalibrationImages | None:
        """Restore from ``tensors``, None if nothing was kept.

        Raises:
            ValueError: It is malformed.
        """
        if not tensors:
            return None
        digests, fuses = tensors.get('digests'), tensors.get('fuses')
        if (
            digests is None or fuses is None or digests.dtype != np.uint8
            or digests.ndim != 2 or digests.shape[1] != KEPT or fuses.shape != (len(digests),)
        ):
            raise ValueError('the list of its calibration images is malformed')
        return CalibrationImages(digests, fuses.astype(bool))

    def __len__(self) -> int:
        """Return N."""
        return len(self.digests)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the state as arrays."""
        return {'digests': self.digests, 'fuses': self.fuses.astype(np.uint8)}

    def find(self, digests: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Find these images among others, in the two parts of the calibration.

        Args:
            digests: Checksums of M images.

        Returns:
            Indices of the images that fit the fusion and of those that calibrate it, int64 in [0,
            M). An image that occurs twice stands for two calibration images.
        """
        waiting: defaultdict[bytes, deque[bool]] = defaultdict(deque)
        for digest, fuses in zip(self.digests, self.fuses, strict=True):
            waiting[digest.tobytes()].append(bool(fuses))
        found: tuple[list[int], list[int]] = ([], [])
        for place, digest in enumerate(digests):
            parts = waiting.get(digest[:KEPT])
            if parts:
                found[0 if parts.popleft() else 1].append(place)
        return np.array(found[0], np.int64), np.array(found[1], np.int64)


@dataclass(frozen=True)
class ReusedImages:
    """Number of images of a source that were used to make a monitor."""

    images: int  # images in the source
    training: int | None  # images to which the scores were fitted; None if unknown
    calibration: int | None  # images on which the monitor was calibrated; None if unknown

    def warning(self, source: str) -> str:
        """Return a sentence on images of a source that were used before; '' if there are none."""
        parts = [
            f'{count} were used to {use}'
            for count, use in ((self.training, 'fit'), (self.calibration, 'calibrate'))
            if count
        ]
        if not parts:
            return ''
        return (
            f'of the {self.images} images of {source}, {" and ".join(parts)} this monitor: results '
            'on them are better than on new images'
        )


def reused_images(
    training: TrainingImages | None,
    calibration: CalibrationImages | None,
    digests: Sequence[bytes],
) -> ReusedImages:
    """Return how many images were used to fit or calibrate a monitor.

    Args:
        training: ``Bundle.training_images``.
        calibration: ``Bundle.calibration_images``.
        digests: Checksums of the images in question.
    """
    short = image_ids(digests)
    found = None
    if calibration is not None:
        kept = np.ascontiguousarray(calibration.digests).view('>u8').reshape(-1)
        found = int(np.isin(short, kept.astype(np.uint64)).sum())
    return ReusedImages(
        len(digests), None if training is None else int(training.contain(digests).sum()), found
    )
