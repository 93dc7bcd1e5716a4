"""Structure of a network from one probing forward pass: its layers, head and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.layers import Layer
from nav_monitor_ros.perception.network.logits import (
    LOGITS,
    SIGMOIDS,
    form_of,
    refusal,
    scale_between,
)
from nav_monitor_ros.perception.network.torch.flowing_values import FlowingValues, ModuleInput
from nav_monitor_ros.perception.network.torch.positions import Placement, Positions
from nav_monitor_ros.perception.network.torch.sigmoids import Sigmoids
from nav_monitor_ros.perception.network.untrusted_code import foreign_code


@dataclass(frozen=True)
class NetworkStructure:
    """Structure of a network, from one probing forward pass."""

    layers: tuple[Layer, ...]
    inputs: tuple[ModuleInput, ...]  # distinct values that enter layers with weights
    head: str | None  # name of the linear layer whose output is the logits, None without one
    classes: int
    form: str = LOGITS  # form of the network's own outputs, one of ``outputs.FORMS``
    scale: float = 1.0  # factor from the head's output to the logits: the inverse of a temperature


def probe_structure(network: nn.Module, input_shape: Sequence[int]) -> NetworkStructure:
    """Run one image of noise through the network and record its structure.

    Args:
        network: Network in evaluation mode, on any device.
        input_shape: (channels, height, width) of one preprocessed image.

    Returns:
        Layers, the values that enter them, the classification head, the number of classes, and the
        form of the outputs. The head is the last executed linear layer (or 1 x 1 convolution of
        a single position) whose output is the network's output, possibly through a softmax,
        log-softmax or sigmoid at any temperature.

    Raises:
        NavMonitorError: The network cannot take such an image or does not return one row of class
            scores.
    """
    outputs: dict[str, torch.Tensor] = {}
    placements: dict[str, Placement] = {}

    def note(name: str):
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if torch.is_tensor(output) and output.ndim >= 2 and output.shape[0] == len(probe):
                outputs.pop(name, None)  # a module that runs twice counts at its last run
                outputs[name] = output.detach().clone()
                placements[name] = positions.placement(output)

        return hook

    device = next((p.device for p in network.parameters()), torch.device('cpu'))
    probe = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    modules = dict(network.named_modules())
    flowing, positions = FlowingValues(probe), Positions(probe)
    handles = [m.register_forward_hook(note(name)) for name, m in modules.items() if name]
    handles += flowing.watch(modules)
    try:
        with foreign_code(f'the network {type(network).__qualname__}'), \
                torch.inference_mode(), Sigmoids() as sigmoids, positions, flowing:
            result = network(probe)
    except NavMonitorError:
        raise
    except Exception as error:
        reason = one_line(error)
        raise NavMonitorError(
            f'the network cannot take an image of shape {tuple(input_shape)} '
            f'(channels, height, width): {reason}; check --size and --color'
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not torch.is_tensor(result) or result.ndim != 2 or len(result) != len(probe):
        raise refusal(result)
    layers = tuple(
        Layer(
            number, name, type(modules[name]).__name__, tuple(output.shape[1:]),
            placements[name].channels_last, placements[name].grid,
        )
        for number, (name, output) in enumerate(outputs.items(), start=1)
    )
    values = result.float().cpu().numpy()
    form = SIGMOIDS if sigmoids.made(result) else form_of(values)
    head, scale = _find_head(modules, outputs, values, form)
    inputs = flowing.inputs(modules)
    return NetworkStructure(layers, inputs, head, result.shape[1], form, scale)


def _is_linear(module: nn.Module, output: torch.Tensor) -> bool:
    """Return whether a module computes a linear function of one vector for each image."""
    if isinstance(module, nn.Conv2d):
        plain = set(module.kernel_size) == {1} and module.groups == 1 and (
            module.padding in ((0, 0), 'valid'))
        return plain and output.shape[2:] == (1, 1)
    return isinstance(module, nn.Linear)


def _find_head(
    modules: dict[str, nn.Module], outputs: dict[str, torch.Tensor], result: np.ndarray, form: str
) -> tuple[str | None, float]:
    """Return the name of the head, and the factor between its output and the logits."""
    for name in reversed(outputs):
        if not _is_linear(modules[name], outputs[name]):
            continue
        output = outputs[name].flatten(1)  # also of a sequence of one token
        if output.shape != result.shape:
            continue
        values = output.float().cpu().numpy()
        scale = scale_between(values, result, form)
        if scale is not None:
            return name, scale
    return None, 1.0
