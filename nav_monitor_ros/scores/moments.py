"""Mergeable sums from which means, variances and covariances are computed."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg.blas import ssymv

from nav_monitor_ros.scores.base import NotApplicableError

MOST_SQUARE = 8192  # largest number of features of a covariance matrix, of 0.5 GB then


def require_square(score: str, width: int) -> None:
    """Check that a score may keep a covariance matrix of so many features.

    Raises:
        NotApplicableError: It would be too large.
    """
    if width > MOST_SQUARE:
        raise NotApplicableError(
            f'{score}: the covariance of {width} features would take '
            f'{8 * width**2 / 1e9:.3g} GB, and at most {MOST_SQUARE} features are supported; '
            'monitor another layer (--layer), or leave this score out (--scores)'
        )


class ClassSums:
    """Count and sum for each class and neuron.

    Memory is allocated with the first image: a score that is read from a bundle needs no sums,
    whatever number of classes the bundle claims.
    """

    def __init__(self, classes: int, width: int) -> None:
        """Start empty."""
        self._shape = classes, width

    @cached_property
    def count(self) -> np.ndarray:
        """Images of each class, int64 (C,)."""
        return np.zeros(self._shape[0], np.int64)

    @cached_property
    def origin(self) -> np.ndarray:
        """Origin subtracted from all features, float64 (D,)."""
        return np.zeros(self._shape[1])

    @cached_property
    def sum(self) -> np.ndarray:
        """Sums of the features minus the origin, float64 (C, D)."""
        return np.zeros(self._shape)

    def centre(self, features: np.ndarray) -> None:
        """Take the mean of a sample (N, D) as the origin, so that sums keep their precision."""
        self.origin = features.mean(axis=0, dtype=np.float64)

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add images: features (N, D), labels int64 (N,)."""
        self._add(features.astype(np.float64) - self.origin, labels)

    def merge(self, other: ClassSums) -> None:
        """Add the sums of ``other``, which has the same origin."""
        self.count += other.count
        self.sum += other.sum

    def _add(self, centred: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Add images, and return which of them belong to each class, float64 (C, N)."""
        members = np.zeros((len(self.count), len(centred)))
        members[labels, np.arange(len(centred))] = 1.0
        self.count += members.sum(axis=1).astype(np.int64)
        self.sum += members @ centred
        return members

    def mean(self) -> np.ndarray:
        """Return the mean of each class, float64 (C, D); that of all images for an empty class."""
        mean = np.tile(self.sum.sum(axis=0) / max(1, self.count.sum()), (len(self.count), 1))
        some = self.count > 0
        mean[some] = self.sum[some] / self.count[some, None]
        return mean + self.origin


class ClassMoments(ClassSums):
    """Count, sum and sum of squares for each class and neuron."""

    @cached_property
    def squares(self) -> np.ndarray:
        """Sums of the squares of the features minus the origin, float64 (C, D)."""
        return np.zeros(self._shape)

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add images: features (N, D), labels int64 (N,)."""
        centred = features.astype(np.float64) - self.origin
        self.squares += self._add(centred, labels) @ centred**2

    def merge(self, other: ClassSums) -> None:
        """Add the sums of ``other``, which has the same origin."""
        assert isinstance(other, ClassMoments)
        super().merge(other)
        self.squares += other.squares

    def variance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the variances of each class, float64 (C, D), and of all images, (D,).

        A class with fewer than two images has those of all images.
        """
        total = max(1, self.count.sum())
        pooled = self.squares.sum(axis=0) / total - (self.sum.sum(axis=0) / total) ** 2
        variance = np.tile(pooled, (len(self.count), 1))
        several = self.count > 1
        count = self.count[several, None]
        variance[several] = self.squares[several] / count - (self.sum[several] / count) ** 2
        return np.maximum(variance, 0.0), np.maximum(pooled, 0.0)


class Scatter:
    """Count, sum and sum of outer products of all images; memory as for ``ClassMoments``."""

    def __init__(self, width: int) -> None:
        """Start empty."""
        self.count = 0
        self._width = width

    @cached_property
    def origin(self) -> np.ndarray:
        """Origin subtracted from all features, float64 (D,)."""
        return np.zeros(self._width)

    @cached_property
    def sum(self) -> np.ndarray:
        """Sum of the features minus the origin, float64 (D,)."""
        return np.zeros(self._width)

    @cached_property
    def products(self) -> np.ndarray:
        """Sum of their outer products, float64 (D, D)."""
        return np.zeros((self._width, self._width))

    def centre(self, features: np.ndarray) -> None:
        """Take the mean of a sample (N, D) as the origin, so that products keep their precision."""
        self.origin = features.mean(axis=0, dtype=np.float64)

    def add(self, features: np.ndarray) -> None:
        """Add images, (N, D)."""
        centred = features.astype(np.float64) - self.origin
        self.count += len(centred)
        self.sum += centred.sum(axis=0)
        self.products += centred.T @ centred

    def merge(self, other: Scatter) -> None:
        """Add the sums of ``other``, which has the same origin."""
        self.count += other.count
        self.sum += other.sum
        self.products += other.products

    def mean(self) -> np.ndarray:
        """Return the mean, float64 (D,)."""
        return self.origin + self.sum / self.count

    def about(self, point: np.ndarray) -> np.ndarray:
        """Return the mean outer product of the deviations from ``point``, float64 (D, D)."""
        offset = self.sum / self.count
        gap = self.mean() - point
        covariance = self.products / self.count - np.outer(offset, offset)
        return covariance + np.outer(gap, gap)


def whitening(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Return the symmetric W with ``W @ W`` the inverse of a shrunk covariance, float32 (D, D).

    The covariance is shrunk towards its mean variance, so that it can be inverted whatever the
    number of images: ``(1 - shrinkage) * S + shrinkage * mean(diag S) * I``.

    Args:
        covariance: float64 (D, D), symmetric, positive semi-definite.
        shrinkage: Shrinkage towards the mean variance, in (0, 1).
    """
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0)  # some are negative due to rounding if images repeat
    # Constant features have no scale: the unit is then that of the features.
    variance = float(values.mean()) or 1.0
    shrunk = (1 - shrinkage) * values + shrinkage * variance
    # The symmetric square root does not depend on signs and order of the eigenvectors.
    return ((vectors / np.sqrt(shrunk)) @ vectors.T).astype(np.float32)


def whitened(deviation: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``deviation @ matrix``.

    For one image the time to read the matrix from memory dominates; only half of a symmetric matrix
    is read.

    Args:
        deviation: float32 (N, D).
        matrix: float32 (D, D), symmetric, as returned by ``whitening``.

    Returns:
        float32 (N, D).
    """
    if len(deviation) == 1 and deviation.dtype == matrix.dtype == np.float32:
        product: np.ndarray = ssymv(1.0, matrix.T, deviation[0])
        return product[None]
    return deviation @ matrix


def is_symmetric(matrix: np.ndarray) -> bool:
    """Return whether a matrix may come from ``whitening``: symmetric, with a positive diagonal."""
    scale = np.abs(matrix).max(initial=0.0)
    close = np.allclose(matrix, matrix.T, rtol=0.0, atol=1e-5 * scale)
    return bool(close and (np.diag(matrix) > 0).all())
