"""Interface of a running network, independent of the backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.perception.network.backends import Engine
from nav_monitor_ros.perception.network.layers import Layer, LayerId
from nav_monitor_ros.perception.preprocess import Preprocess

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


class RunningNetwork(Protocol):
    """A network with its preprocessing: ``Classifier`` for torch, else ``OnnxClassifier``."""

    preprocess: Preprocess
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[Layer, ...]  # distinct values that enter layers with weights
    layer: str  # name of the monitored layer
    background: int | None
    classes: int
    width: int  # number of monitored neurons
    engine: Engine
    head: Head | None  # the last layer's weights if they act on the monitored features
    own_head: Head | None  # the same as the network has them, not in canonical form
    unit: float  # factor on the network's own features

    def __call__(self, batch: np.ndarray) -> Activations:
        """Run one forward pass over float32 (N, channels, height, width)."""
        ...

    def watch(self, layers: Iterable[LayerId]) -> None:
        """Yield the channel means of additional layers in every pass."""
        ...

    def sample_dropout(self, passes: int, seed: int = 0) -> None:
        """Yield the logits of the given number of passes with active dropout in every pass."""
        ...

    def tap(self, layers: Iterable[LayerId]) -> None:
        """Set the layers whose maps are kept, starting with the next pass."""
        ...

    def use_threads(self, count: int, *, trying: bool = False) -> None:
        """Set the number of threads on the CPU, starting with the next pass.

        Args:
            count: Number of threads, at least 1.
            trying: Whether other numbers will be tried again.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the network's weights, or its graph, to a file."""
        ...

    def fingerprint(self) -> str:
        """Return a checksum of the weights, hexadecimal."""
        ...

    @property
    def taps(self) -> Sequence[str]:
        """Return the names of the tapped layers."""
        ...

    @property
    def columns(self) -> tuple[int, ...]:
        """Return which of the network's outputs are the classes, in their order."""
        ...

    @property
    def device(self) -> object:
        """Return the device that it runs on."""
        ...

    @property
    def network(self) -> nn.Module:
        """Return the torch network; raise ``NavMonitorError`` if there is none."""
        ...
