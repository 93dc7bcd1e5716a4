"""Where the values of a layer lie in the image, found in one probing forward pass.

A shape does not tell whether (56, 96, 96) are maps with their channels first or last, or which of
197 tokens belong to which patch of the image. Therefore every tensor computed from the image has
a companion of the same shape, which states for each value the row and column it belongs to. What
only rearranges a tensor (a transposition, a flattening, a class token in front) is done to the
companion as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nav_monitor_ros.perception.network.torch.flowing_values import nested_tensors

_COLUMNS = 1 << 14  # more than any map has
_NOWHERE = 0.0  # a value that belongs to no position, such as those of a class token

# Functions that only rearrange, select or join values, by name.
_REARRANGING = {
    'permute', 'transpose', 'swapaxes', 'swapdims', 'movedim', 'moveaxis', 'reshape',
    'view', 'flatten', 'unflatten', 'squeeze', 'unsqueeze', 'roll', 'pad', 'cat', 'concat',
    'concatenate', 'stack', 'split', 'chunk', 'tensor_split', 'unbind', 'narrow', 'select',
    'index_select', 'expand', 'expand_as', 'repeat', '__getitem__', 'contiguous', 'clone', 'flip',
    'unfold', '__get__',
}


@dataclass(frozen=True)
class Placement:
    """Where the values of a tensor (N, ...) lie in the image."""

    channels_last: bool = False
    grid: tuple[int, int] | None = None  # rows and columns of tokens, or of maps with channels last


@dataclass(frozen=True)
class _Companion:
    """Position of each value of a tensor, as ``1 + row * _COLUMNS + column``."""

    values: torch.Tensor  # float64, with the tensor's shape
    plain: bool = False  # whether these are maps with their channels first


class Positions(TorchFunctionMode):
    """While active in a forward pass, follows the positions of values through the network."""

    def __init__(self, images: torch.Tensor) -> None:
        """Start with a batch of images, (N, channels, height, width)."""
        super().__init__()
        self._companions = WeakTensorKeyDictionary()
        self._companions[images] = _maps(images)

    def placement(self, tensor: torch.Tensor) -> Placement:
        """Return where the values of a tensor of the pass lie, (N, ...).

        Tensors of which nothing is known are taken for maps with their channels first, and for
        tokens without a grid.
        """
        found = self._companions.get(tensor)
        if found is None or found.plain or tensor.ndim not in (3, 4):
            return Placement()
        if found.values.shape != tensor.shape:  # transposed in place
            return Placement()
        places = found.values[0].cpu().numpy()
        # The channels of a position differ only where those of several positions were joined.
        changes = [
            float((np.diff(places, axis=axis) != 0).mean()) if places.shape[axis] > 1 else 0.0
            for axis in range(places.ndim)
        ]
        if changes[-1] >= max(changes[:-1]):
            return Placement()
        grid = _grid(places[..., 0].ravel())
        if places.ndim == 2:
            return Placement(grid=grid)
        # Windows of an image have their channels last, but no rows and columns of the image.
        return Placement(channels_last=True, grid=grid if grid == places.shape[:2] else None)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch, and do the same to the companions if it rearranges values."""
        named = dict(kwargs or {})
        given = [t for t in nested_tensors((args, named)) if t in self._companions]
        # Before the function runs, since it may work in place.
        known = [(tuple(t.shape), self._companions[t]) for t in given]
        moved = None
        if given and getattr(func, '__name__', '') in _REARRANGING:
            moved = self._moved(func, args, named)
        returned = func(*args, **named)
        if given:
            if moved is not None:
                self._note_moved(returned, moved)
            else:
                for tensor in nested_tensors((returned,)):
                    self._note(tensor, known)
        return returned

    def _moved(
        self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        """Return what a function makes of the companions, None if they cannot be followed."""
        try:
            return func(*self._companions_of(args), **self._companions_of(named))
        except Exception:  # for example a padding that float64 does not support
            return None

    def _companions_of(self, values: Any) -> Any:
        """Return arguments with the companions in place of the tensors."""
        if torch.is_tensor(values):
            found = self._companions.get(values)
            if found is not None:
                return found.values
            if values.is_floating_point():
                return torch.zeros((), dtype=torch.float64, device=values.device).expand(
                    values.shape)
            return values
        if isinstance(values, dict):
            return {key: self._companions_of(value) for key, value in values.items()}
        if isinstance(values, tuple):
            return tuple(self._companions_of(value) for value in values)
        if isinstance(values, list):
            return [self._companions_of(value) for value in values]
        return values

    def _note_moved(self, returned: Any, moved: Any) -> None:
        pairs = zip(nested_tensors((returned,)), nested_tensors((moved,)), strict=False)
        for tensor, values in pairs:
            if tensor.shape == values.shape and tensor.is_floating_point():
                self._companions[tensor] = _Companion(values)

    def _note(
        self, tensor: torch.Tensor, known: Sequence[tuple[tuple[int, ...], _Companion]]
    ) -> None:
        """Record the result of a function that computes new values."""
        shape = tuple(tensor.shape)
        if not tensor.is_floating_point():
            return
        for given, companion in reversed(known):
            if given == shape:  # element by element, a normalisation, or attention
                self._companions[tensor] = companion
                return
        for given, companion in known:
            if len(given) == len(shape) == 4 and companion.plain:  # convolutions and pooling
                self._companions[tensor] = _maps(tensor)
                return
        for given, companion in known:
            if given[:-1] == shape[:-1] and len(shape) > 1 and given[-1]:  # a linear layer
                values = companion.values[..., :1].expand(shape)
                self._companions[tensor] = _Companion(values)
                return


def _maps(tensor: torch.Tensor) -> _Companion:
    """Return the companion of maps (N, channels, height, width)."""
    rows, columns = (
        torch.arange(length, dtype=torch.float64, device=tensor.device)
        for length in tensor.shape[2:]
    )
    values = 1 + rows[:, None] * _COLUMNS + columns
    return _Companion(values.expand(tensor.shape), plain=True)


def _grid(places: np.ndarray) -> tuple[int, int] | None:
    """Return the rows and columns of tokens that lie row by row, after those without a position.

    Args:
        places: float64 (T,), position of each token.
    """
    leading = int((places == _NOWHERE).cumprod().sum())
    rows, columns = np.divmod(places[leading:] - 1, _COLUMNS)
    across, down = np.unique(columns), np.unique(rows)
    if not len(rows) or len(down) * len(across) != len(rows):
        return None
    in_order = np.array_equal(rows, down.repeat(len(across))) and np.array_equal(
        columns, np.tile(across, len(down)))
    return (len(down), len(across)) if in_order else None
