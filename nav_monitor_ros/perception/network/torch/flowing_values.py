"""The values that flow into the layers with weights, found in one probing forward pass.

Layers named by modules depend on how a network is written: a ReLU may be a module, a function or
part of a block. The values that enter convolutions, linear layers and attention do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nav_monitor_ros.perception.network.layers import INPUT, Layer

# How a value depends on the image.
_IMAGE = 0  # without weights in between: the image itself, normalised, padded, ...
_WEIGHTED = 1
_MIXED = 2  # a product of two such values, as in attention, without weights after it

_CONVOLUTIONS = {
    torch.conv1d, torch.conv2d, torch.conv3d, functional.conv1d, functional.conv2d,
    functional.conv3d,
}
_PRODUCTS = {
    functional.linear, torch.matmul, torch.mm, torch.bmm, torch.Tensor.matmul, torch.Tensor.mm,
    torch.Tensor.bmm, torch.Tensor.__matmul__, torch.einsum, functional.bilinear,
    torch.baddbmm, torch.addmm, functional.scaled_dot_product_attention,
}
_WEIGHTS = (_ConvNd, nn.Linear, nn.MultiheadAttention)
_SAME = 1e-4  # largest difference between equal channel means, relative to their length


@dataclass(frozen=True)
class ModuleInput:
    """Where a flowing value can be taken: the first input of a module."""

    layer: Layer  # its id and shape
    module: str
    batch_axis: int  # 0, or 1 for tokens that come first

    def taken(self, value: torch.Tensor) -> torch.Tensor:
        """Return a module's input as (N, *shape), batch axis first, windows put together."""
        value = value.movedim(self.batch_axis, 0) if self.batch_axis else value
        shape = self.layer.shape
        return value if value.shape[1:] == shape else value.reshape(-1, *shape)


@dataclass(frozen=True)
class _Value:
    """The channel means of a value, by which it is recognised, and its layout."""

    means: torch.Tensor  # float64 (N, channels), of length 1
    layer: Layer  # without name
    batch_axis: int

    def same(self, other: _Value) -> bool:
        """Return whether the channel means are equal up to a factor."""
        return self.means.shape == other.means.shape and bool(
            (self.means - other.means).abs().max() <= _SAME
        )


class FlowingValues(TorchFunctionMode):
    """While active in a forward pass, records the values that enter layers with weights.

    ``watch`` has to be called before the pass.
    """

    def __init__(self, images: torch.Tensor) -> None:
        """Start with a batch of images of noise, (N, channels, height, width)."""
        super().__init__()
        self._count = len(images)
        self._kinds = WeakTensorKeyDictionary()
        self._kinds[images] = _IMAGE
        self._flowing: list[tuple[str, _Value]] = []  # module ('' if unknown), value
        self._entered: dict[str, list[_Value]] = {}  # module -> its input, in possible layouts
        self._running: list[bool] = []  # layers with weights: whether they take such a value

    def watch(self, modules: Mapping[str, nn.Module]) -> list[torch.utils.hooks.RemovableHandle]:
        """Record the inputs of modules; return the hooks, to be removed after the pass."""
        handles = []
        for name, module in modules.items():
            if not name:
                continue
            weighted = isinstance(module, _WEIGHTS)
            handles.append(module.register_forward_pre_hook(
                self._before(name, module, weighted), with_kwargs=True
            ))
            if weighted:
                handles.append(module.register_forward_hook(self._after))
        return handles

    def inputs(self, modules: Mapping[str, nn.Module]) -> tuple[ModuleInput, ...]:
        """Return the distinct values that a module's input gives, in the order of execution."""
        found: list[ModuleInput] = []
        known: list[_Value] = []
        for owner, value in self._flowing:
            place = self._place(owner, value)
            if place is None:
                continue
            name, entered = place
            size = entered.layer.size
            if any(size == other.layer.size and entered.same(other) for other in known):
                continue
            known.append(entered)
            layer = replace(
                entered.layer, number=len(found) + 1, name=f'{name}{INPUT}',
                kind=type(modules[name]).__name__,
            )
            found.append(ModuleInput(layer, name, entered.batch_axis))
        return tuple(found)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch, and record how its result depends on the image."""
        given = list(nested_tensors((*args, *(kwargs or {}).values())))
        kinds = [self._kinds[tensor] for tensor in given if tensor in self._kinds]
        if kinds:
            kind = max(kinds)
            if func in _CONVOLUTIONS or (func in _PRODUCTS and len(kinds) == 1):
                self._note_function(func, next(t for t in given if t in self._kinds), kind)
                kind = _WEIGHTED
            elif func in _PRODUCTS:
                kind = _MIXED
        returned = func(*args, **(kwargs or {}))
        if kinds:
            changed = [returned, args[0] if func is torch.Tensor.__setitem__ else None]
            for tensor in nested_tensors(changed):
                self._kinds[tensor] = kind
        return returned

    def _before(self, name: str, module: nn.Module, weighted: bool):
        convolves = isinstance(module, _ConvNd)
        layouts = (False,) if convolves else (True,) if weighted else (False, True)

        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            value = first_tensor(inputs, named)
            kind = None if value is None else self._kinds.get(value)
            if weighted:
                self._running.append(kind is not None)
            if value is None or kind is None:
                return
            self._entered[name] = [
                found for last in layouts if (found := self._value(value, last)) is not None
            ]
            if weighted and kind == _WEIGHTED and self._entered[name]:
                self._flowing.append((name, self._entered[name][0]))

        return hook

    def _after(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if self._running.pop():
            for tensor in nested_tensors((output,)):
                self._kinds[tensor] = _WEIGHTED

    def _note_function(self, func: Callable[..., Any], value: torch.Tensor, kind: int) -> None:
        """Record the input of a function with weights, unless it is that of a recorded module."""
        if self._running or kind != _WEIGHTED:
            return
        found = self._value(value, func not in _CONVOLUTIONS)
        if found is not None:
            self._flowing.append(('', found))

    def _value(self, value: torch.Tensor, channels_last: bool) -> _Value | None:
        """Return the description of a tensor, None if its batch axis is unknown."""
        count, shape = self._count, tuple(value.shape)
        if value.ndim < 2 or not value.is_floating_point():
            return None
        batch_axis = 0
        if channels_last and value.ndim == 3 and shape[1] == count != shape[0]:
            batch_axis = 1
            value = value.movedim(1, 0)
        elif channels_last and value.ndim > 2 and shape[0] != count and shape[0] % count == 0:
            # The windows of an image, as a map of as many positions.
            positions = math.prod(shape[:-1]) // count
            side = math.isqrt(positions)
            sides = (side, positions // side) if positions % side == 0 else (positions,)
            value = value.reshape(count, *sides, shape[-1])
        if len(value) != count:
            return None
        layer = Layer(0, '', '', tuple(value.shape[1:]), channels_last)
        value = value.detach().float()
        means = (value.mean(layer.position_axes) if layer.position_axes else value).double()
        length = float(means.norm())
        if not 0 < length < math.inf:
            return None
        return _Value(means.cpu() / length, layer, batch_axis)

    def _place(self, owner: str, value: _Value) -> tuple[str, _Value] | None:
        """Return the module whose last input is a value, and that input."""
        names = [owner] if owner else list(self._entered)
        for name in (*names, *self._entered):
            for entered in self._entered[name]:
                if entered.same(value):
                    return name, entered
        return None


def first_tensor(inputs: Sequence[Any], named: Mapping[str, Any]) -> torch.Tensor | None:
    """Return the first tensor that a module gets, by position or by name; None without one."""
    return next(nested_tensors((*inputs, *named.values())), None)


def nested_tensors(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested sequences and mappings."""
    for value in values:
        if torch.is_tensor(value):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from nested_tensors(value)
        elif isinstance(value, dict):
            yield from nested_tensors(value.values())
