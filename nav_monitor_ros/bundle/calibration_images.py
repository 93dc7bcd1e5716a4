"""Which images a monitor was calibrated on, so that they can be found again among others."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEPT = 8  # bytes of an image's checksum: enough to tell images apart, not to vouch for them


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
