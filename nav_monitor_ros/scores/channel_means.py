"""Channel means of the early layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score


class ChannelMeans(Score):
    """Mahalanobis distance of the early layers' channel means to those of training.

    For each watched layer l with C_l channels, m_l is the mean over positions of each channel;
    ``score = sum_l (m_l - mu_l)^T S_l^-1 (m_l - mu_l) / C_l`` with the mean and covariance of all
    training images, whatever their class. The penultimate layer has forgotten much of what tells a
    photograph from a digit; the first layers have not, and their means fall out of the same
    forward pass. S_l is shrunk towards its mean variance by ``shrinkage``, so that it can be
    inverted whatever the number of images.

    Needs the channel means of ``layers``; O(sum C_l^2) a frame. Source: the feature ensemble of
    Lee et al., NeurIPS 2018, without classes, input perturbation and a trained combination.
    """

    name = 'channel_means'

    def __init__(
        self,
        *,
        classes: int,
        width: int,
        head: Head | None,
        layers: Sequence[str] = (),
        shrinkage: float = 0.01,
    ) -> None:
        """Start empty.

        Args:
            classes: As for every score; not used.
            width: As for every score; not used.
            head: As for every score; not used.
            layers: Names of the watched layers; ``fit`` fills them in where none is given.
            shrinkage: In (0, 1), share of the mean variance in the diagonal.

        Raises:
            NavMonitorError: An option is out of range.
        """
        super().__init__(classes=classes, width=width, head=head)
        if not 0 < shrinkage < 1:
            raise NavMonitorError(
                f'channel_means: shrinkage must lie between 0 and 1, not {shrinkage}'
            )
        self.layers = tuple(layers)
        self.shrinkage = float(shrinkage)
        self._count = 0
        self._origin: dict[str, np.ndarray] = {}
        self._sum: dict[str, np.ndarray] = {}
        self._products: dict[str, np.ndarray] = {}
        self.mean: dict[str, np.ndarray] = {}  # layer -> float32 (C_l,)
        self.whitening: dict[str, np.ndarray] = {}  # layer -> float32 (C_l, C_l), rows whiten

    @property
    def watched(self) -> tuple[str, ...]:
        """Return the watched layers."""
        return self.layers

    @property
    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword options."""
        return {'layers': list(self.layers), 'shrinkage': self.shrinkage}

    def prepare(self, sample: Activations) -> None:
        """Take the sample's means as the origin, so that sums of squares lose no digits."""
        if not self.layers:
            raise NavMonitorError(
                'channel_means: the network has no layers with spatial extent to watch; '
                'leave this score out (--scores)'
            )
        for layer in self.layers:
            origin = sample.means[layer].mean(axis=0, dtype=np.float64)
            self._origin[layer] = origin
            self._sum[layer] = np.zeros_like(origin)
            self._products[layer] = np.zeros((len(origin), len(origin)))

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        self._count += len(batch)
        for layer in self.layers:
            centred = batch.means[layer].astype(np.float64) - self._origin[layer]
            self._sum[layer] += centred.sum(axis=0)
            self._products[layer] += centred.T @ centred

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, ChannelMeans)
        self._count += other._count
        for layer in self.layers:
            self._sum[layer] += other._sum[layer]
            self._products[layer] += other._products[layer]

    def finish(self) -> None:
        """Turn sums into means and whitening matrices."""
        if not self._count:
            raise NavMonitorError('channel_means: no training image was seen')
        for layer in self.layers:
            offset = self._sum[layer] / self._count
            covariance = self._products[layer] / self._count - np.outer(offset, offset)
            channels = len(offset)
            # A layer that never changes has no scale of its own; any deviation is large then.
            variance = max(float(np.trace(covariance)) / channels, 1e-12)
            covariance = (1 - self.shrinkage) * covariance
            covariance += self.shrinkage * variance * np.eye(channels)
            lower = np.linalg.cholesky(covariance)
            whitening = np.linalg.solve(lower, np.eye(channels)) / np.sqrt(channels)
            self.mean[layer] = (self._origin[layer] + offset).astype(np.float32)
            self.whitening[layer] = whitening.astype(np.float32)

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        total = np.zeros(len(batch))
        for layer in self.layers:
            deviation = batch.means[layer] - self.mean[layer]
            # Not a matrix product: BLAS adds in another order for one row than for many.
            white = np.einsum('nc,kc->nk', deviation, self.whitening[layer])
            total += np.square(white, dtype=np.float64).sum(axis=1)
        return total

    def tensors(self) -> dict[str, np.ndarray]:
        """Return means and whitening matrices."""
        return {
            **{f'mean/{layer}': self.mean[layer] for layer in self.layers},
            **{f'whitening/{layer}': self.whitening[layer] for layer in self.layers},
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take back means and whitening matrices."""
        for layer in self.layers:
            self.mean[layer] = self._take(tensors, f'mean/{layer}', (None,))
            channels = len(self.mean[layer])
            self.whitening[layer] = self._take(
                tensors, f'whitening/{layer}', (channels, channels)
            )

    def notes(self) -> list[str]:
        """Name the watched layers."""
        return [f'channel_means: watches {", ".join(self.layers)}']
