"""Structure of a network from one probing forward pass: its layers, head and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

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
from nav_monitor_ros.perception.network.torch.tensors import as_rows
from nav_monitor_ros.perception.network.untrusted_code import foreign_code

# Largest difference between W x + b and the output of a linear layer, relative to its values.
_EXACT, _ROUGH = 1e-4, 3e-2


@dataclass(frozen=True)
class NetworkStructure:
    """Structure of a network, from one probing forward pass."""

    layers: tuple[Layer, ...]
    inputs: tuple[ModuleInput, ...]  # distinct values that enter layers with weights
    head: str | None  # name of the linear layer whose output is the logits, None without one
    classes: int
    form: str = LOGITS  # form of the network's own outputs, one of ``outputs.FORMS``
    scale: float = 1.0  # factor from the head's output to the logits: the inverse of a temperature
    unlike_linear: str = ''  # layer whose output is the logits, but which is not W x + b


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
    placements: dict[str, Placement] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    candidates: dict[str, _Candidate] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if torch.is_tensor(output) and output.ndim >= 2 and output.shape[0] == len(probe):
                shapes.pop(name, None)  # a module that runs twice counts at its last run
                shapes[name] = tuple(output.shape[1:])
                placements[name] = positions.placement(output)
                # Only values that may be the logits are kept: all maps together can be gigabytes.
                if _may_be_head(module, output) and inputs and torch.is_tensor(inputs[0]):
                    candidates[name] = _Candidate(
                        as_rows(inputs[0]).detach().clone(), as_rows(output).detach().clone())

        return hook

    device = next((p.device for p in network.parameters()), torch.device('cpu'))
    probe = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    modules = dict(network.named_modules())
    flowing, positions = FlowingValues(probe), Positions(probe)
    handles: list[Any] = []
    try:
        handles += [m.register_forward_hook(note(name)) for name, m in modules.items() if name]
        handles += flowing.watch(modules)
    except RuntimeError as error:  # of TorchScript
        raise NavMonitorError(
            f'the layers of this network cannot be observed ({one_line(error, 200)}): let the '
            'factory return the eager module instead of a TorchScript one, or export it to ONNX'
        ) from error
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
            number, name, type(modules[name]).__name__, shape,
            placements[name].channels_last, placements[name].grid,
        )
        for number, (name, shape) in enumerate(shapes.items(), start=1)
    )
    values = result.float().cpu().numpy()
    form = SIGMOIDS if sigmoids.made(result) else form_of(values)
    ordered = {name: candidates[name] for name in shapes if name in candidates}
    head, scale, unlike = _find_head(modules, ordered, values, form)
    inputs = flowing.inputs(modules)
    return NetworkStructure(layers, inputs, head, result.shape[1], form, scale, unlike)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A module that may be the head: what it was given and what it returned."""

    entering: torch.Tensor  # (N, D)
    output: torch.Tensor  # (N, outputs)


def _may_be_head(module: nn.Module, output: torch.Tensor) -> bool:
    """Return whether a module is a linear layer that returned one row for each image."""
    if isinstance(module, nn.Conv2d):
        plain = set(module.kernel_size) == {1} and module.groups == 1 and (
            module.padding in ((0, 0), 'valid'))
        return plain and output.shape[2:] == (1, 1)
    # Also of a sequence of one token.
    return isinstance(module, nn.Linear) and output.shape[1:].numel() == output.shape[-1]


def _find_head(
    modules: dict[str, nn.Module], candidates: Mapping[str, _Candidate], result: np.ndarray,
    form: str,
) -> tuple[str | None, float, str]:
    """Return the head's name, the factor between its output and the logits, and another layer.

    That layer is the last one whose output is the logits, although it does not compute ``W x + b``;
    '' if there is none. Subclasses of ``nn.Linear`` may compute anything, such as a cosine.
    """
    unlike = ''
    for name in reversed(list(candidates)):
        candidate = candidates[name]
        if candidate.output.shape != result.shape:
            continue
        scale = scale_between(candidate.output.float().cpu().numpy(), result, form)
        if scale is None:
            continue
        if _is_affine(modules[name], candidate):
            return name, scale, ''
        unlike = unlike or name
    return None, 1.0, unlike


def _is_affine(module: nn.Module, seen: _Candidate) -> bool:
    """Return whether a module's output is ``W x + b`` with its own weights."""
    weight: Any = module.weight
    bias: Any = module.bias
    rough = torch.is_tensor(weight) and weight.dtype.itemsize < 4
    if not torch.is_tensor(weight) or weight[0].numel() != seen.entering.shape[1]:
        return False
    expected = functional.linear(
        seen.entering.double(), weight.detach().reshape(len(weight), -1).double(),
        None if bias is None else bias.detach().double(),
    )
    if not (expected.isfinite().all() and seen.output.isfinite().all()):
        return True  # nothing can be told from these values
    away = (expected - seen.output).abs().max()
    # Matrix products of TensorFloat-32 are nearly as coarse as those of 16 bits.
    allowed = _ROUGH if rough or seen.output.is_cuda else _EXACT
    return bool(away <= allowed * expected.abs().max().clamp(min=1e-30))
