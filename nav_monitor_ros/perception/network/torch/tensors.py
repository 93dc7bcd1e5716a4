"""Tensors of a network: memory format and conversion to the shapes of the monitor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from nav_monitor_ros.perception.network.layers import Layer
from nav_monitor_ros.perception.network.untrusted_code import foreign_code


def arrange_weights(
    network: nn.Module, input_shape: Sequence[int], device: torch.device
) -> torch.memory_format:
    """Set a network's weights to channels-last memory format, if it supports that.

    This makes convolutions up to twice as fast. Networks that flatten their maps with ``view``
    fail.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    probe = torch.zeros(2, *input_shape, device=device)
    try:
        with foreign_code('the network'), torch.inference_mode():
            network(probe.contiguous(memory_format=torch.channels_last))
    except Exception:  # errors with another cause are reported by the next pass
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return torch.contiguous_format
    return torch.channels_last


def as_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor (N, ...) as (N, values)."""
    return tensor if tensor.ndim == 2 else tensor.flatten(1)


def mean_over_positions(output: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return each channel's mean, (N, channels), of a layer's maps, tokens or rows (N, ...)."""
    return output.mean(layer.position_axes) if layer.position_axes else output.clone()


def to_numpy(tensor: torch.Tensor | None) -> np.ndarray:
    """Return a tensor as float32 on the CPU, in memory of exactly its size."""
    assert tensor is not None  # the hooks have run
    found = tensor.detach().float().cpu()
    if found.untyped_storage().nbytes() > found.nbytes:
        found = found.clone()  # a view would keep the larger tensor alive
    return found.numpy()
