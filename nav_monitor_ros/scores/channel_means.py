"""Channel means of the early layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.moments import (
    Scatter,
    is_symmetric,
    require_square,
    whitened,
    whitening,
)
from nav_monitor_ros.scores.score_options import option

_SUMS = ('count', 'sum', 'products')  # of a Scatter


@dataclass(frozen=True)
class ChannelMeansOptions:
    """Options of ``channel_means``."""

    layers: tuple[str, ...] = option(
        (), 'Layers, or tensors that enter layers (`NAME:input`), whose channel means are '
        'compared; if empty, `fit` selects the tensors.'
    )
    shrinkage: float = option(
        0.01, 'Weight of the mean variance in the covariance.', above=0, below=1
    )


class ChannelMeans(Score):
    """Mahalanobis distance of the early layers' channel means to those of training.

    For each watched value l with C_l channels, a layer's output or input, m_l is the mean over
    positions of each channel;
    ``score = sum_l (m_l - mu_l)^T S_l^-1 (m_l - mu_l) / C_l`` with the mean and covariance of all
    training images, whatever their class. The penultimate layer has lost much of what distinguishes
    a photograph from a digit; the first layers have not, and the same forward pass yields their
    means. S_l is shrunk towards its mean variance by ``shrinkage``, so that it can be inverted
    whatever the number of images.

    Needs the channel means of ``layers``; O(sum C_l^2) per frame. Source: the feature ensemble of
    Lee et al., NeurIPS 2018, without classes, input perturbation and a trained combination.
    """

    name = 'channel_means'
    evidence_kind = EvidenceKind.EARLY_LAYERS
    options_type = ChannelMeansOptions
    options: ChannelMeansOptions

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self._scatter: dict[str, Scatter] = {}
        self.mean: dict[str, np.ndarray] = {}  # layer -> float32 (C_l,)
        self.whitening: dict[str, np.ndarray] = {}  # layer -> float32 (C_l, C_l), rows whiten

    @property
    def channel_mean_layers(self) -> tuple[str, ...]:
        """Return the layers whose channel means are compared."""
        return self.options.layers

    def check_layers(self, channels: Mapping[str, int]) -> None:
        """Check that each layer has as many channels as means were fitted."""
        for layer, mean in self.mean.items():
            if channels.get(layer) != len(mean):
                raise NavMonitorError(
                    f'channel_means: was fitted to {len(mean)} channels of layer {layer}, but the '
                    f'network has {channels.get(layer, 0)}; fit the monitor again'
                )

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Choose the origin of the sums, which preserves their precision."""
        if not self.options.layers:
            raise NotApplicableError(
                'channel_means: the network has no layers with spatial extent; '
                'leave this score out (--scores)'
            )
        for layer in self.options.layers:
            require_square(self.name, sample.means[layer].shape[1])
            self._scatter[layer] = Scatter(sample.means[layer].shape[1])
            self._scatter[layer].centre(sample.means[layer])

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        for layer in self.options.layers:
            self._scatter[layer].add(batch.means[layer])

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, ChannelMeans)
        for layer in self.options.layers:
            self._scatter[layer].merge(other._scatter[layer])

    def sample_state(self) -> dict[str, np.ndarray]:
        """Return the origins of the sums."""
        return {f'{layer}/origin': self._scatter[layer].origin for layer in self.options.layers}

    def stream_state(self) -> dict[str, np.ndarray]:
        """Return the sums."""
        return {
            f'{layer}/{part}': np.asarray(getattr(self._scatter[layer], part))
            for layer in self.options.layers for part in _SUMS
        }

    def resume(
        self, sample_state: Mapping[str, np.ndarray], stream_state: Mapping[str, np.ndarray]
    ) -> None:
        """Continue from origins and sums."""
        wanted = {f'{layer}/origin' for layer in self.options.layers}
        if stream_state:
            wanted |= {f'{layer}/{part}' for layer in self.options.layers for part in _SUMS}
        if not wanted <= {*sample_state, *stream_state}:
            raise self._inconsistent()
        for layer in self.options.layers:
            scatter = Scatter(len(sample_state[f'{layer}/origin']))
            scatter.origin = sample_state[f'{layer}/origin'].copy()
            if stream_state:
                scatter.count = int(stream_state[f'{layer}/count'])
                scatter.sum = stream_state[f'{layer}/sum'].copy()
                scatter.products = stream_state[f'{layer}/products'].copy()
            self._scatter[layer] = scatter

    def finish(self) -> None:
        """Compute means and whitening matrices from the sums."""
        for layer in self.options.layers:
            scatter = self._scatter[layer]
            if not scatter.count:
                raise NavMonitorError('channel_means: no training image was seen')
            mean = scatter.mean()
            self.mean[layer] = mean.astype(np.float32)
            matrix = whitening(scatter.about(mean), self.options.shrinkage)
            self.whitening[layer] = matrix / np.float32(np.sqrt(len(mean)))

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        total = np.zeros(len(batch))
        for layer in self.options.layers:
            white = whitened(batch.means[layer] - self.mean[layer], self.whitening[layer])
            total += np.square(white, dtype=np.float64).sum(axis=1)
        return total

    def tensors(self) -> dict[str, np.ndarray]:
        """Return means and whitening matrices."""
        return {
            **{f'mean/{layer}': self.mean[layer] for layer in self.options.layers},
            **{f'whitening/{layer}': self.whitening[layer] for layer in self.options.layers},
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load means and whitening matrices."""
        if not self.options.layers:
            raise self._inconsistent()
        for layer in self.options.layers:
            self.mean[layer] = self._checked_array(tensors, f'mean/{layer}', (None,))
            channels = len(self.mean[layer])
            self.whitening[layer] = self._checked_array(
                tensors, f'whitening/{layer}', (channels, channels)
            )
            if not is_symmetric(self.whitening[layer]):
                raise self._inconsistent()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """Name the layers and values."""
        return [f'channel_means: watches {", ".join(self.options.layers)}']
