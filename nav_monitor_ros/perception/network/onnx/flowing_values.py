"""The values that flow into the nodes with weights of an ONNX graph.

They are those that ``torch.flowing_values`` finds in the same network run by torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from nav_monitor_ros.perception.network.layers import INPUT, Layer

# How a tensor depends on the image.
_IMAGE = 0  # without weights in between: the image itself, normalised, padded, ...
_WEIGHTED = 1
_MIXED = 2  # a product of two such tensors, as in attention, without weights after it

_CONVOLUTIONS = {'Conv', 'ConvTranspose'}
_PRODUCTS = {'MatMul', 'Gemm', 'Einsum', 'Attention'}
_SAME = {'Identity', 'Cast', 'Dropout'}
_RANDOM = {'RandomNormal', 'RandomNormalLike', 'RandomUniform', 'RandomUniformLike', 'Bernoulli'}
_LENGTHS = {'Shape', 'Size'}  # do not depend on the pixels
_RESHAPING = {'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze', 'Transpose'}

Shape = Sequence[int | None]


def flowing_values(
    nodes: Sequence[Any], image: str, shapes: Mapping[str, Shape], names: Mapping[str, str],
    batch: int | None, constants: Mapping[str, object] | None = None,
) -> list[tuple[Layer, str]]:
    """Return the distinct tensors that enter nodes with weights, in the order of execution.

    Args:
        nodes: Nodes of the graph, each after those whose results it reads.
        image: The graph's input.
        shapes: Shapes of floating-point tensors, None for an unknown length.
        names: Names of layers, by the tensors that they yield.
        batch: Batch size; None for any number.
        constants: Content of constant tensors, by name; hashable.

    Returns:
        Each value, described, and its tensor; batch axis first.
    """
    producers = {output: node for node in nodes for output in node.output}
    twins = _twins(nodes, constants or {})
    kinds = {image: _IMAGE}
    found: dict[str, tuple[Layer, str]] = {}
    taken: set[str] = set()
    for node in nodes:
        given = [name for name in node.input if name in kinds]
        if not given or node.op_type in _LENGTHS:
            continue
        kind = max(kinds[name] for name in given)
        convolves = node.op_type in _CONVOLUTIONS
        if convolves or (node.op_type in _PRODUCTS and len(given) == 1):
            if kind == _WEIGHTED:
                tensor = _source(given[0], convolves, producers, shapes, batch)
                name = names.get(node.output[0], node.name or node.output[0])
                value = twins.get(tensor, tensor) if tensor is not None else ''
                if (
                    tensor is not None and value not in found and name not in taken
                    and name.isprintable()
                ):
                    taken.add(name)
                    shape = tuple(int(length or 0) for length in shapes[tensor][1:])
                    found[value] = Layer(
                        len(found) + 1, f'{name}{INPUT}', node.op_type, shape,
                        channels_last=not convolves,
                    ), tensor
            kind = _WEIGHTED
        elif node.op_type in _PRODUCTS:
            kind = _MIXED
        kinds.update(dict.fromkeys(node.output, kind))
    return list(found.values())


def _twins(nodes: Sequence[Any], constants: Mapping[str, object]) -> dict[str, str]:
    """Return the first of the tensors that hold the same values, by the name of each other one.

    Two nodes of one operator with the same inputs and attributes yield the same: exporters write a
    function that a network calls twice, such as a ReLU before two branches, once or twice.
    """
    names: dict[object, str] = {}
    twins = {name: names.setdefault(content, name) for name, content in constants.items()}
    first: dict[tuple[object, ...], Sequence[str]] = {}
    for node in nodes:
        if node.op_type in _RANDOM:
            continue
        key = (
            node.domain, node.op_type, len(node.output),
            tuple(twins.get(name, name) for name in node.input),
            tuple(sorted(one.SerializeToString() for one in node.attribute)),
        )
        outputs = first.setdefault(key, node.output)
        if outputs is not node.output:
            twins.update(zip(node.output, outputs, strict=True))
    return twins


def _source(
    name: str, convolves: bool, producers: Mapping[str, Any], shapes: Mapping[str, Shape],
    batch: int | None,
) -> str | None:
    """Return the tensor (images, ...) that enters a node, before it is cast, split or rearranged.

    Convolutions take channels first. Other nodes take them last; tokens may be rearranged, as long
    as the channels stay the last axis.
    """
    first = shapes.get(name)
    best = name if _is_batch(first, batch) else None
    while (node := producers.get(name)) is not None:
        before = node.input[0] if node.input else ''
        shape = shapes.get(before)
        if node.op_type not in _SAME:
            if convolves or node.op_type not in _RESHAPING:
                break
            if not first or not shape or shape[-1] != first[-1] or _moves_channels(node, shape):
                break
        name = before
        if _is_batch(shape, batch):
            best = name
    return best


def _moves_channels(node: Any, shape: Shape) -> bool:
    """Return whether a node moves the last axis of a tensor of this shape."""
    if node.op_type != 'Transpose':
        return False
    order: Iterable[int] = next((a.ints for a in node.attribute if a.name == 'perm'), [0])
    return list(order)[-1] != len(shape) - 1


def _is_batch(shape: Shape | None, batch: int | None) -> bool:
    """Return whether a tensor has one row of known shape for each image."""
    return (
        shape is not None and len(shape) >= 2 and shape[0] == batch and _known(shape[1:])
    )


def _known(lengths: Collection[int | None]) -> bool:
    return all(lengths)
