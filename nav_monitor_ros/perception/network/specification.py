"""Specification of a network: its code and arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.logits import OutputName

if TYPE_CHECKING:
    from torch import nn

ONNX = 'onnx'  # specification of a network in an ONNX file, without code


@dataclass(frozen=True)
class NetworkSpec:
    """Origin of a network's code: ``torchvision:<name>`` or ``package.module:factory``."""

    spec: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    output: OutputName | None = None
    # number or name of the output with the class scores; None if there is only one

    @property
    def package(self) -> str:
        """Return the top-level package whose code the specification runs."""
        return self.spec.partition(':')[0].partition('.')[0]

    def build(
        self, trusted_packages: Sequence[str] = (), weights: Path | None = None
    ) -> nn.Module:
        """Return the network in evaluation mode, with the given weights or new ones.

        Args:
            trusted_packages: Top-level packages, besides torchvision and this one, whose code may
                be imported. A bundle is data; only its user can allow it to name code.
            weights: Weights of a bundle: a state dict with the network's own names. A network whose
                package is not in ``trusted_packages`` must not use more memory than these: its
                arguments, which come from the same source, could request more than is available.

        Returns:
            The network, on the CPU.

        Raises:
            NavMonitorError: The specification is malformed, its package is not trusted or not
                installed, the factory does not exist, fails or returns something else, or the
                weights do not fit.
        """
        if self.spec == ONNX:
            raise NavMonitorError(
                'this network is in ONNX form: there is no torch network to build, and gradient '
                'views need one'
            )
        # Imported here since torch takes seconds to load and an exported network does not need it.
        from nav_monitor_ros.perception.network.torch.model_factory import build

        return build(self.spec, self.arguments, trusted_packages, weights, self.output)


def load_weights(
    network: nn.Module, path: Path, shape: tuple[int, ...] | None = None
) -> None:
    """Load a state dict into ``network``.

    Args:
        network: Network to load the weights into.
        path: ``.safetensors``, or a file of ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``, ...)
            holding tensors only (read with ``weights_only=True``). The state dict may be nested in
            other dictionaries and have a prefix, as written by data-parallel training,
            ``torch.compile`` and Lightning; apart from that, all names and shapes must match the
            network's. Stripped prefixes and ignored entries are logged. Extra state of modules
            (``get_extra_state``) is ignored unless it is a tensor.
        shape: (channels, height, width) of an image, with which to check that ignored extra state
            does not change the outputs; None for no such check.

    Raises:
        NavMonitorError: The file is missing, unreadable, holds code, does not fit, holds the
            network several times, or the outputs depend on its extra state.
    """
    from nav_monitor_ros.perception.network.torch.weights import load_weights as load

    load(network, path, shape)
