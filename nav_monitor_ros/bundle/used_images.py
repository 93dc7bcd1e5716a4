"""Which images a monitor was fitted and calibrated on, so that they can be found among others."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEPT = 8  # bytes of an image's checksum: enough to tell images apart, not to vouch for them


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The images that the scores were fitted to, whatever their order, without their pixels."""

    digests: np.ndarray  # uint64 (N,), rising: the first KEPT bytes of the checksums

    @staticmethod
    def of(digests: Sequence[bytes]) -> TrainingImages:
        """Return what is kept of images with these checksums."""
        return TrainingImages.joined([_shortened(digests)])

    @staticmethod
    def joined(parts: Iterable[np.ndarray]) -> TrainingImages:
        """Return the images of several parts, uint64 (M,) each; copies are kept once."""
        return TrainingImages(np.unique(np.concatenate([np.zeros(0, np.uint64), *parts])))

    @staticmethod
    def restored(tensors: Mapping[str, np.ndarray]) -> TrainingImages | None:
        """Return what ``tensors`` gave, None where nothing was kept.

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
        """Return all of it as arrays."""
        return {'digests': self.digests}

    def contain(self, digests: Sequence[bytes]) -> np.ndarray:
        """Return which of other images are among these, bool (M,), from their checksums."""
        return np.isin(_shortened(digests), self.digests)


def _shortened(digests: Sequence[bytes]) -> np.ndarray:
    """Return the first bytes of checksums as numbers, uint64 (N,)."""
    short = b''.join(digest[:KEPT] for digest in digests)
    return np.frombuffer(short, '>u8').astype(np.uint64)


@dataclass(frozen=True, eq=False)
class CalibrationImages:
    """The images of a calibration, in their order, without their pixels."""

    digests: np.ndarray  # uint8 (N, KEPT), the first bytes of the checksums
    fuses: np.ndarray  # bool (N,): by which scores are fused; the others calibrate their fusion

    @staticmethod
    def of(digests: Sequence[bytes], fuses: np.ndarray) -> CalibrationImages:
        """Return what is kept of images with these checksums."""
        short = b''.join(digest[:KEPT] for digest in digests)
        return CalibrationImages(
            np.frombuffer(short, np.uint8).reshape(-1, KEPT), np.asarray(fuses, bool)
        )

    @staticmethod
    def restored(tensors: Mapping[str, np.ndarray]) -> CalibrationImages | None:
        """Return what ``tensors`` gave, None where nothing was kept.

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
        """Return all of it as arrays."""
        return {'digests': self.digests, 'fuses': self.fuses.astype(np.uint8)}

    def find(self, digests: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Find these images among others, in the two parts of the calibration.

        Args:
            digests: Checksums of M images.

        Returns:
            Places of the images by which scores are fused, and of those that calibrate their
            fusion, int64 in [0, M). An image that is there twice stands for two of the calibration.
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
    """How many images of a source a monitor was made of."""

    images: int  # in the source
    training: int | None  # that the scores were fitted to; None where the bundle does not tell
    calibration: int | None  # that the monitor was calibrated on; None likewise

    def warning(self, source: str) -> str:
        """Return a sentence on images of a source that were used before; empty if none was."""
        parts = [
            f'{count} were used for {use}'
            for count, use in ((self.training, 'fitting'), (self.calibration, 'calibration'))
            if count
        ]
        if not parts:
            return ''
        return (
            f'of {self.images} images of {source} {" and ".join(parts)} of this monitor: figures '
            'on them are better than on new images'
        )


def reused_images(
    training: TrainingImages | None,
    calibration: CalibrationImages | None,
    digests: Sequence[bytes],
) -> ReusedImages:
    """Return how many images a monitor was fitted to or calibrated on.

    Args:
        training: ``Bundle.training_images``.
        calibration: ``Bundle.calibration_images``.
        digests: Checksums of the images in question.
    """
    short = _shortened(digests)
    found = None
    if calibration is not None:
        kept = np.ascontiguousarray(calibration.digests).view('>u8').reshape(-1)
        found = int(np.isin(short, kept.astype(np.uint64)).sum())
    return ReusedImages(
        len(digests), None if training is None else int(training.contain(digests).sum()), found
    )
