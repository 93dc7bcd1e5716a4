"""The outputs of one forward pass, and the last linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Head:
    """The last linear layer: ``logits = entering(features) @ weight.T + bias``.

    Scores get it in canonical form: the mean over the classes is 0, and the rows of the weights
    have the root mean square length 1.
    """

    weight: np.ndarray  # float32 (C, D)
    bias: np.ndarray  # float32 (C,)
    rectified: bool = False  # whether a ReLU lies between the monitored features and the layer

    def entering(self, features: np.ndarray) -> np.ndarray:
        """Return the input of the layer for features (N, D), of the same shape and type."""
        return np.maximum(features, 0) if self.rectified else features

    def logits(self, entering: np.ndarray) -> np.ndarray:
        """Return the logits (N, C) for the layer's input (N, D)."""
        return entering @ self.weight.T + self.bias


@dataclass(frozen=True)
class Activations:
    """The outputs of one forward pass over N images, on the CPU."""

    logits: np.ndarray
    # float32 (N, C), before any softmax, without the background class; the mean of a row is 0
    features: np.ndarray
    # float32 (N, D), the monitored layer, penultimate unless chosen otherwise; in the unit of the
    # head if that acts on them
    means: Mapping[str, np.ndarray] = field(default_factory=dict)
    # watched layer's name -> float32 (N, channels), the mean over positions of each channel
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    # layer name -> float32 (N, channels, height, width) or (N, width), only for tapped layers
    samples: np.ndarray | None = None
    # float32 (N, K, C), logits of K passes with active dropout, if requested
    background: np.ndarray | None = None
    # float32 (N,), the logit of the background class, if the network has one; shifted by the same
    # number as the other logits
    shift: np.ndarray | None = None
    # float64 (N,), the mean that was subtracted from the network's own logits, if known
    image_ids: np.ndarray | None = None
    # uint64 (N,), equal for images of equal pixels, if these are known

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """Return the index of the largest logit of each image, int64 (N,)."""
        return self.logits.argmax(axis=1)

    def __getitem__(self, index: slice | np.ndarray) -> Activations:
        """Return the images that ``index`` selects, as views if possible."""
        return Activations(
            self.logits[index],
            self.features[index],
            {name: means[index] for name, means in self.means.items()},
            {name: maps[index] for name, maps in self.maps.items()},
            None if self.samples is None else self.samples[index],
            None if self.background is None else self.background[index],
            None if self.shift is None else self.shift[index],
            None if self.image_ids is None else self.image_ids[index],
        )

    @staticmethod
    def concatenate(parts: list[Activations]) -> Activations:
        """Return the concatenation of parts; tapped maps are dropped."""
        return Activations(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.features for part in parts]),
            {name: np.concatenate([part.means[name] for part in parts]) for name in parts[0].means},
            samples=_joined([part.samples for part in parts]),
            background=_joined([part.background for part in parts]),
            shift=_joined([part.shift for part in parts]),
            image_ids=_joined([part.image_ids for part in parts]),
        )


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None
