"""Where the values of an ONNX graph's tensors lie in the image: the axis of their channels.

They are what ``torch.positions`` finds in the same network run by torch, as far as the shapes tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Shape = Sequence[int | None]

_POOLING = {
    'Conv', 'ConvTranspose', 'MaxPool', 'AveragePool', 'LpPool', 'GlobalAveragePool',
    'GlobalMaxPool', 'Resize', 'Upsample',
}
_RESHAPING = {'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze'}
_MAPS, _TOKENS = 4, 3  # axes of a batch
_MOST_LEADING = 16  # class, distillation and register tokens


@dataclass(frozen=True)
class ChannelAxis:
    """The axis of a tensor's channels, and the rows and columns of its other values."""

    axis: int
    grid: tuple[int, int]
    leading: int = 0  # tokens before those of the grid


def channel_axes(
    nodes: Sequence[Any], image: str, shapes: Mapping[str, Shape]
) -> dict[str, ChannelAxis]:
    """Return the channel axis of each tensor of maps and tokens for which it is known.

    Args:
        nodes: Nodes of the graph, each after those whose results it reads.
        image: The graph's input, (N, channels, rows, columns).
        shapes: Shapes of floating-point tensors, batch axis first, None for an unknown length.
    """
    found: dict[str, ChannelAxis] = {}
    first = _maps(1, shapes.get(image, ()))
    if first is not None:
        found[image] = first
    patches: tuple[ChannelAxis | None, int] = None, 0  # the last maps, and their channels
    for node in nodes:
        for output in node.output:
            shape = shapes.get(output)
            if shape is None or len(shape) not in (_TOKENS, _MAPS) or not all(shape[1:]):
                continue
            given = [(found[name], shapes[name]) for name in node.input if name in found]
            axis = _result(node, given, shape, shapes)
            if axis is None and len(shape) == _TOKENS:
                axis = _embedded(shape, *patches)
            if axis is not None:
                found[output] = axis
                if axis.axis == 1 and len(shape) == _MAPS:
                    patches = axis, int(shape[1] or 0)
    return found


def _result(
    node: Any, given: Sequence[tuple[ChannelAxis, Shape]], shape: Shape,
    shapes: Mapping[str, Shape],
) -> ChannelAxis | None:
    """Return the channel axis of a node's result, None if it is unknown."""
    if node.op_type in _POOLING:
        return _maps(1, shape)
    if not given:
        return None
    axis, before = given[0]
    if node.op_type == 'Transpose':
        return _transposed(node, axis, len(before))
    if node.op_type in _RESHAPING:
        return _reshaped(axis, before, shape)
    same = [one for one, other in given if list(other[1:]) == list(shape[1:])]
    if same:
        return same[-1]
    if len(before) != len(shape):
        return None
    if len(shape) == _MAPS:  # cut, padded or joined maps
        kept = before[axis.axis] == shape[axis.axis] or node.op_type in ('MatMul', 'Concat')
        return _maps(axis.axis, shape) if kept else None
    if node.op_type == 'MatMul' and list(before[1:-1]) == list(shape[1:-1]):
        return axis if axis.axis == _TOKENS - 1 else None
    if node.op_type == 'Concat' and len(given) == 1 and node.input[-1] in shapes and (
        axis.axis == _TOKENS - 1 and shapes[node.input[-1]] is before
    ):
        added = int(shape[1] or 0) - int(before[1] or 0)  # such as a class token
        return replace(axis, leading=axis.leading + added)
    return None


def _embedded(shape: Shape, maps: ChannelAxis | None, channels: int) -> ChannelAxis | None:
    """Return the channel axis of tokens that are the last maps, row by row, after a few others.

    Exporters write the flattening of a batch of any size with lengths that shape inference does not
    know, so that it cannot be followed.
    """
    if maps is None or shape[2] != channels:
        return None
    leading = int(shape[1] or 0) - math.prod(maps.grid)
    return ChannelAxis(2, maps.grid, leading) if 0 <= leading <= _MOST_LEADING else None


def _maps(axis: int, shape: Shape) -> ChannelAxis | None:
    if len(shape) != _MAPS or not all(shape[1:]):
        return None
    rows, columns = (int(shape[place] or 0) for place in range(1, _MAPS) if place != axis)
    return ChannelAxis(axis, (rows, columns))


def _transposed(node: Any, axis: ChannelAxis, axes: int) -> ChannelAxis | None:
    """Return the channel axis after a transposition that leaves rows before columns."""
    order: list[int] = next((list(a.ints) for a in node.attribute if a.name == 'perm'), [])
    others = [place for place in order if place not in (0, axis.axis)]
    if len(order) != axes or order[0] != 0 or others != sorted(others):
        return None
    return replace(axis, axis=order.index(axis.axis))


def _reshaped(axis: ChannelAxis, before: Shape, shape: Shape) -> ChannelAxis | None:
    """Return the channel axis after maps were flattened to tokens, or the reverse."""
    if list(before[1:]) == list(shape[1:]):
        return axis
    channels, count = before[axis.axis], math.prod(axis.grid)
    last = axis.axis == len(before) - 1
    if axis.leading or (not last and axis.axis != 1):
        return None
    if len(shape) == _TOKENS and list(shape[1:]) == [count, channels][:: 1 if last else -1]:
        return ChannelAxis(2 if last else 1, axis.grid)
    maps = [*axis.grid, channels] if last else [channels, *axis.grid]
    if len(shape) == _MAPS and list(shape[1:]) == maps:
        return ChannelAxis(3 if last else 1, axis.grid)
    return None
