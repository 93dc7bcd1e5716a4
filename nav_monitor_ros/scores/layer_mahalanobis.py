"""Distance of several layers to the predicted class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.moments import (
    ClassSums,
    Scatter,
    is_symmetric,
    require_square,
    whitened,
    whitening,
)
from nav_monitor_ros.scores.score_options import option

FEATURES = '(features)'  # stands for the monitored layer among the names of the others
_CLASS_SUMS = ('count', 'sum')
_SUMS = ('count', 'sum', 'products')  # of a Scatter
_CONSTANT = 1e-6  # spread that is due to rounding, relative to the largest or to that of all images


@dataclass(frozen=True)
class LayerMahalanobisOptions:
    """Options of ``layer_mahalanobis``."""

    layers: tuple[str, ...] = option(
        (), 'Layers, or tensors that enter layers (`NAME:input`), whose channel means are '
        'compared, besides the features; if empty, `fit` selects the tensors.'
    )
    shrinkage: float = option(
        0.1, 'Weight of the mean variance in the covariance.', above=0, below=1
    )


class LayerMahalanobis(Score):
    """Mahalanobis distances of several layers to the predicted class, added.

    For each watched value l, a layer's output or input, m_l is the mean over positions of each
    channel; the features are the last such value. With m_lc the mean of the training images of the
    predicted class c and S_l the covariance within classes, shared by all classes,
    ``q_l = (m_l - m_lc)^T S_l^-1 (m_l - m_lc)`` and ``score = sum_l (q_l - E_l) / D_l``. Channels
    are scaled to the standard deviation 1 before, and S_l is shrunk towards its mean variance by
    ``shrinkage``. E_l and D_l are the mean and standard deviation that q_l has for normally
    distributed training images, so that every layer has the same weight.

    An object of an unknown class is often close to the predicted class in the last layer, but not
    in the layers before it. Needs the channel means of ``layers`` and the features; O(sum C_l^2)
    per frame, tensors of sum (C_l^2 + C C_l) numbers for C classes and C_l channels.
    Source: the feature ensemble of Lee et al., NeurIPS 2018, with the predicted instead of the
    nearest class, and without input perturbation and a trained combination.
    """

    name = 'layer_mahalanobis'
    evidence_kind = EvidenceKind.EARLY_LAYERS
    options_type = LayerMahalanobisOptions
    options: LayerMahalanobisOptions

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self._classes: dict[str, ClassSums] = {}
        self._scatter: dict[str, Scatter] = {}
        self.mean: dict[str, np.ndarray] = {}  # layer -> float32 (C_l,), of all images
        self.scale: dict[str, np.ndarray] = {}  # layer -> float32 (C_l,), standard deviations
        self.whitening: dict[str, np.ndarray] = {}  # layer -> float32 (C_l, C_l)
        self.class_means: dict[str, np.ndarray] = {}  # layer -> float32 (C, C_l), whitened
        self.moments: dict[str, np.ndarray] = {}  # layer -> float64 (2,), E_l and D_l

    @property
    def channel_mean_layers(self) -> tuple[str, ...]:
        """Return the layers whose channel means are compared."""
        return self.options.layers

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of all compared values, of which the features are the last."""
        return (*self.options.layers, FEATURES)

    def check_layers(self, channels: Mapping[str, int]) -> None:
        """Check that each layer has as many channels as means were fitted."""
        for layer in self.options.layers:
            fitted = len(self.mean.get(layer, ()))
            if fitted and channels.get(layer) != fitted:
                raise NavMonitorError(
                    f'{self.name}: was fitted to {fitted} channels of layer {layer}, but the '
                    f'network has {channels.get(layer, 0)}; fit the monitor again'
                )

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Choose the origins of the sums, which preserve their precision."""
        for layer, values in self._values(sample):
            channels = values.shape[1]
            require_square(self.name, channels)
            self._classes[layer] = ClassSums(self.classes, channels)
            self._classes[layer].centre(values)
            self._scatter[layer] = Scatter(channels)
            self._scatter[layer].centre(values)

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        for layer, values in self._values(batch):
            self._classes[layer].add(values, labels)
            self._scatter[layer].add(values)

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, LayerMahalanobis)
        for layer in self.layers:
            self._classes[layer].merge(other._classes[layer])
            self._scatter[layer].merge(other._scatter[layer])

    def sample_state(self) -> dict[str, np.ndarray]:
        """Return the origins of the sums."""
        return {f'{layer}/origin': self._scatter[layer].origin for layer in self.layers}

    def stream_state(self) -> dict[str, np.ndarray]:
        """Return the sums."""
        state = {}
        for layer in self.layers:
            for part in _SUMS:
                state[f'{layer}/{part}'] = np.asarray(getattr(self._scatter[layer], part))
            for part in _CLASS_SUMS:
                state[f'{layer}/class_{part}'] = getattr(self._classes[layer], part)
        return state

    def resume(
        self, sample_state: Mapping[str, np.ndarray], stream_state: Mapping[str, np.ndarray]
    ) -> None:
        """Continue from origins and sums."""
        wanted = {f'{layer}/origin' for layer in self.layers}
        if stream_state:
            parts = (*_SUMS, *(f'class_{part}' for part in _CLASS_SUMS))
            wanted |= {f'{layer}/{part}' for layer in self.layers for part in parts}
        if not wanted <= {*sample_state, *stream_state}:
            raise self._inconsistent()
        for layer in self.layers:
            origin = sample_state[f'{layer}/origin']
            scatter, classes = Scatter(len(origin)), ClassSums(self.classes, len(origin))
            scatter.origin, classes.origin = origin.copy(), origin.copy()
            if stream_state:
                scatter.count = int(stream_state[f'{layer}/count'])
                scatter.sum = stream_state[f'{layer}/sum'].copy()
                scatter.products = stream_state[f'{layer}/products'].copy()
                classes.count = stream_state[f'{layer}/class_count'].copy()
                classes.sum = stream_state[f'{layer}/class_sum'].copy()
            self._scatter[layer], self._classes[layer] = scatter, classes

    def finish(self) -> None:
        """Compute means, whitening matrices and the moments of the distances from the sums."""
        for layer in self.layers:
            self._finish_layer(layer, self._scatter[layer], self._classes[layer])

    def _finish_layer(self, layer: str, scatter: Scatter, classes: ClassSums) -> None:
        if not scatter.count:
            raise NavMonitorError(f'{self.name}: no training image was seen')
        mean = scatter.mean()
        total = scatter.about(mean)
        deviation = np.sqrt(np.maximum(np.diag(total), 0.0))
        largest = float(deviation.max()) or 1.0
        scale = np.where(deviation > _CONSTANT * largest, deviation, largest)
        offset = (classes.mean() - mean) / scale
        share = classes.count / scatter.count
        within = total / np.outer(scale, scale) - (offset * share[:, None]).T @ offset
        if np.trace(within) < _CONSTANT * len(within):
            within = np.zeros_like(within)  # rounding: the images of every class are equal
        matrix = whitening(within, self.options.shrinkage)
        # The eigenvalues of whitened training images: 1 without shrinkage.
        kept = np.linalg.eigvalsh(matrix.astype(np.float64) @ within @ matrix)
        self.mean[layer] = mean.astype(np.float32)
        self.scale[layer] = scale.astype(np.float32)
        self.whitening[layer] = matrix
        self.class_means[layer] = (offset @ matrix.astype(np.float64)).astype(np.float32)
        spread = float(np.sqrt(2 * np.square(kept).sum()))
        self.moments[layer] = np.array([kept.sum(), spread or 1.0])

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        return np.sum(list(self._deviations(batch)), axis=0)

    def evidence_kinds(self, batch: Activations) -> np.ndarray:
        """Return the kind of the layer that deviates most for each image, text (N,)."""
        deviations = np.stack(list(self._deviations(batch)))
        last = deviations.argmax(axis=0) == len(deviations) - 1
        return np.where(last, EvidenceKind.FEATURES.value, EvidenceKind.EARLY_LAYERS.value)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return means, scales, whitening matrices and the moments of the distances."""
        parts = ('mean', 'scale', 'whitening', 'class_means', 'moments')
        return {
            f'{part}/{layer}': getattr(self, part)[layer] for part in parts for layer in self.layers
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load what ``tensors`` returned."""
        for layer in self.layers:
            width = self.width if layer == FEATURES else None
            self.mean[layer] = self._checked_array(tensors, f'mean/{layer}', (width,))
            channels = len(self.mean[layer])
            shapes = {
                'scale': (channels,), 'whitening': (channels, channels),
                'class_means': (self.classes, channels), 'moments': (2,),
            }
            for part, shape in shapes.items():
                getattr(self, part)[layer] = self._checked_array(
                    tensors, f'{part}/{layer}', shape)
            positive = (self.scale[layer] > 0).all() and self.moments[layer][1] > 0
            if not positive or not is_symmetric(self.whitening[layer]):
                raise self._inconsistent()

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """Name the layers and values."""
        watched = ', '.join((*self.options.layers, 'the features'))
        return [f'{self.name}: watches {watched}']

    def _values(self, batch: Activations) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name of each compared value, and the value of each image, (N, C_l)."""
        for layer in self.options.layers:
            yield layer, batch.means[layer]
        yield FEATURES, batch.features

    def _deviations(self, batch: Activations) -> Iterator[np.ndarray]:
        """Yield the standardised distance of each image in each layer, float64 (N,)."""
        predicted = batch.predicted
        for layer, values in self._values(batch):
            scaled = (values - self.mean[layer]) / self.scale[layer]
            white = whitened(scaled, self.whitening[layer]) - self.class_means[layer][predicted]
            expected, spread = self.moments[layer]
            yield (np.square(white, dtype=np.float64).sum(axis=1) - expected) / spread
