"""The interface of a network in service, whichever backend runs it."""

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
    """A network with its preprocessing: ``Classifier`` by torch, ``OnnxClassifier`` else."""

    preprocess: Preprocess
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    layer: str  # the monitored one
    background: int | None
    classes: int
    width: int  # number of monitored neurons
    engine: Engine

    def __call__(self, batch: np.ndarray) -> Activations:
        """Run one forward pass over float32 (N, channels, height, width)."""
        ...

    def watch(self, layers: Iterable[LayerId]) -> None:
        """Have every pass yield the channel means of more layers."""
        ...

    def sample_dropout(self, passes: int, seed: int = 0) -> None:
        """Have every pass yield the logits of this number of passes with dropout on."""
        ...

    def tap(self, layers: Iterable[LayerId]) -> None:
        """Choose the layers whose maps the next passes keep."""
        ...

    def use_threads(self, count: int, *, trying: bool = False) -> None:
        """Use this number of threads on the CPU from the next pass on.

        Args:
            count: At least 1.
            trying: Other numbers are going to be tried again.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the network's weights, or its graph, to a file."""
        ...

    def fingerprint(self) -> str:
        """Return a checksum of the weights, hexadecimal."""
        ...

    @property
    def head(self) -> Head | None:
        """Return the last layer's weights if they act on the monitored features."""
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
        """Return where it runs."""
        ...

    @property
    def network(self) -> nn.Module:
        """Return the torch network; raise ``NavMonitorError`` where there is none."""
        ...
