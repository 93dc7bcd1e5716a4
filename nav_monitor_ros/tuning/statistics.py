"""Responses of a layer's components to the images of each class, as mergeable sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

TRUE, PREDICTED = 0, 1  # kinds of labels
KEPT = 100  # top images of a component

# The bins are the same for every network, so that statistics can be merged without known ranges:
# eight per octave from 2^-12 to 2^12 on either side of a bin for zero.
_PER_OCTAVE, _OCTAVES = 8, 12
_SIDE = 2 * _OCTAVES * _PER_OCTAVE
BINS = 2 * _SIDE + 1
ZERO_BIN = _SIDE
NO_IMAGE = -1


def bin_of(values: np.ndarray) -> np.ndarray:
    """Return the bin of each response.

    Args:
        values: float, finite, of any shape.

    Returns:
        int64 of that shape, 0 to ``BINS - 1``, increasing with the response. ``ZERO_BIN`` holds
        absolute values below 2^-12, the outermost bins those beyond 2^12.
    """
    magnitude = np.abs(values).astype(np.float64)
    with np.errstate(divide='ignore'):
        place = np.floor(_PER_OCTAVE * (np.log2(magnitude) + _OCTAVES)) + 1
    place = np.clip(place, 0, _SIDE).astype(np.int64)
    return np.where(values < 0, ZERO_BIN - place, ZERO_BIN + place)


def bin_centres() -> np.ndarray:
    """Return the geometric mean of each bin's edges, float64 (BINS,)."""
    steps = np.arange(1, _SIDE + 1)
    above = 2.0 ** ((steps - 0.5) / _PER_OCTAVE - _OCTAVES)
    return np.concatenate([-above[::-1], [0.0], above])


@dataclass(eq=False)
class LayerTuning:
    """The responses of some components of one layer, by class.

    Responses that are not finite are only counted in ``broken``.
    """

    name: str
    components: np.ndarray  # int64 (n,): channels, or neurons, of the layer
    counts: np.ndarray  # int32 (2, C, n, BINS), for true and predicted labels
    sums: np.ndarray  # float64 (2, C, n)
    squares: np.ndarray  # float64 (2, C, n)
    positive: np.ndarray  # float64 (2, C, n), the sum of max(response, 0)
    broken: np.ndarray  # int64 (n,), responses that are NaN or infinite
    lowest: np.ndarray  # float64 (n,)
    highest: np.ndarray  # float64 (n,)
    top_values: np.ndarray  # float32 (n, KEPT), descending; -inf if there are fewer images
    top_images: np.ndarray  # int64 (n, KEPT), NO_IMAGE if there are fewer

    @classmethod
    def empty(cls, name: str, components: np.ndarray, classes: int) -> LayerTuning:
        """Return the statistics of no images.

        Args:
            name: Name of the layer.
            components: int64 (n,), indices of the recorded components.
            classes: C.
        """
        count = len(components)
        return cls(
            name=name,
            components=np.asarray(components, np.int64),
            counts=np.zeros((2, classes, count, BINS), np.int32),
            sums=np.zeros((2, classes, count)),
            squares=np.zeros((2, classes, count)),
            positive=np.zeros((2, classes, count)),
            broken=np.zeros(count, np.int64),
            lowest=np.full(count, np.inf),
            highest=np.full(count, -np.inf),
            top_values=np.full((count, KEPT), -np.inf, np.float32),
            top_images=np.full((count, KEPT), NO_IMAGE, np.int64),
        )

    @property
    def dead(self) -> np.ndarray:
        """Return which components gave every image the same response, bool (n,)."""
        return ~(self.highest > self.lowest)

    def add(self, responses: np.ndarray, labels: np.ndarray, images: np.ndarray) -> None:
        """Add the responses to some images.

        Args:
            responses: float32 (N, n).
            labels: int64 (2, N), true and predicted; -1 for an image without a true label.
            images: int64 (N,), unique numbers of the images.
        """
        finite = np.isfinite(responses)
        self.broken += (~finite).sum(0)
        values = np.where(finite, responses, 0).astype(np.float64)
        bins = bin_of(values)
        columns = np.broadcast_to(np.arange(responses.shape[1]), responses.shape)
        for kind in (TRUE, PREDICTED):
            rows = np.broadcast_to(labels[kind][:, None], responses.shape)
            known = finite & (rows >= 0)
            np.add.at(self.counts[kind], (rows[known], columns[known], bins[known]), 1)
            for total, terms in (
                (self.sums, values), (self.squares, values**2),
                (self.positive, np.maximum(values, 0)),
            ):
                for label in np.unique(labels[kind][labels[kind] >= 0]):
                    mine = labels[kind] == label
                    total[kind, label] += (terms[mine] * finite[mine]).sum(0)
        lows, highs = (np.where(finite, responses, edge) for edge in (np.inf, -np.inf))
        self.lowest = np.minimum(self.lowest, lows.min(0, initial=np.inf))
        self.highest = np.maximum(self.highest, highs.max(0, initial=-np.inf))
        self._keep_top(
            np.where(finite, responses, -np.inf).T.astype(np.float32),
            np.where(finite, images[:, None], NO_IMAGE).T,
        )

    def merge(self, other: LayerTuning) -> None:
        """Merge the statistics of other images.

        Raises:
            NavMonitorError: They belong to another layer, or to other components or classes.
        """
        if (
            self.name != other.name
            or not np.array_equal(self.components, other.components)
            or self.counts.shape != other.counts.shape
        ):
            raise NavMonitorError(
                f"layer '{self.name}' and layer '{other.name}' were not recorded with the same "
                "options"
            )
        self.counts += other.counts
        self.sums += other.sums
        self.squares += other.squares
        self.positive += other.positive
        self.broken += other.broken
        self.lowest = np.minimum(self.lowest, other.lowest)
        self.highest = np.maximum(self.highest, other.highest)
        self._keep_top(other.top_values, other.top_images)

    def _keep_top(self, values: np.ndarray, images: np.ndarray) -> None:
        """Keep the largest of the existing and the new values, (n, M) each; in a tie, the first."""
        values = np.concatenate([self.top_values, values], axis=1)
        images = np.concatenate([self.top_images, images], axis=1)
        # Empty entries come last, whatever their value.
        unnamed = np.where(images == NO_IMAGE, np.iinfo(np.int64).max, images)
        order = np.lexsort((unnamed, -values), axis=1)[:, :KEPT]
        self.top_values = np.take_along_axis(values, order, axis=1)
        self.top_images = np.take_along_axis(images, order, axis=1)


@dataclass(eq=False)
class CheckpointTuning:
    """All recorded layers of one checkpoint, and the network's predictions."""

    name: str
    layers: tuple[LayerTuning, ...]
    images: np.ndarray  # int64 (N,), their numbers
    labels: np.ndarray  # int64 (2, N), true (-1 if unknown) and predicted

    @property
    def accuracy(self) -> float | None:
        """Return the accuracy on labelled images; None without labels."""
        known = self.labels[TRUE] >= 0
        if not known.any():
            return None
        return float((self.labels[TRUE] == self.labels[PREDICTED])[known].mean())

    def add(
        self, responses: Mapping[str, np.ndarray], labels: np.ndarray, images: np.ndarray
    ) -> None:
        """Add the responses to some images.

        Args:
            responses: Layer's name -> float32 (N, n).
            labels: int64 (2, N), true and predicted.
            images: int64 (N,), unique numbers of the images.
        """
        for layer in self.layers:
            layer.add(responses[layer.name], labels, images)
        self.images = np.concatenate([self.images, images])
        self.labels = np.concatenate([self.labels, labels], axis=1)

    def merge(self, other: CheckpointTuning) -> None:
        """Merge the statistics of other images for the same checkpoint.

        Raises:
            NavMonitorError: They were not recorded with the same options, or an image is in both.
        """
        if [layer.name for layer in self.layers] != [layer.name for layer in other.layers]:
            raise NavMonitorError('the recordings have different layers')
        shared = np.intersect1d(self.images, other.images)
        if len(shared):
            raise NavMonitorError(
                f'{len(shared)} images are in both recordings, such as number {shared[0]}; record '
                'disjoint parts, such as SOURCE?part=1/2 and SOURCE?part=2/2'
            )
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.merge(theirs)
        self.images = np.concatenate([self.images, other.images])
        self.labels = np.concatenate([self.labels, other.labels], axis=1)
        order = np.argsort(self.images)
        self.images, self.labels = self.images[order], self.labels[:, order]

    def class_counts(self, kind: int, classes: int) -> np.ndarray:
        """Return the number of images under each label, int64 (C,)."""
        labels = self.labels[kind]
        return np.bincount(labels[labels >= 0], minlength=classes)


def empty_checkpoint(
    name: str, layers: Sequence[tuple[str, np.ndarray]], classes: int
) -> CheckpointTuning:
    """Return the statistics of no images.

    Args:
        name: Name of the checkpoint.
        layers: Name and components, int64 (n,), of each layer.
        classes: C.
    """
    return CheckpointTuning(
        name,
        tuple(LayerTuning.empty(layer, components, classes) for layer, components in layers),
        np.zeros(0, np.int64),
        np.zeros((2, 0), np.int64),
    )
