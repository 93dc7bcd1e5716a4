"""The last linear layer of an ONNX graph, and its logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

_SHAPING = {'Identity', 'Cast', 'Squeeze', 'Unsqueeze', 'Reshape', 'Flatten', 'Dropout'}
_SQUASHING = {'Softmax', 'LogSoftmax', 'Sigmoid'}  # maps rows of logits to the returned rows
# Operations allowed after a softmax or sigmoid, by its operator.
_UNDONE = {'Log': 'Softmax', 'Exp': 'LogSoftmax'}
_ONE_AXIS = 13  # operator version from which a softmax runs over a single axis


def floating() -> frozenset[int]:
    """Return ONNX's numbers of the data types in which a network computes."""
    from onnx import TensorProto

    return frozenset(
        {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    )


def runs_over_all(node: Any, shape: Sequence[int | None], count: int, version: int) -> bool:
    """Return whether a softmax or sigmoid treats the values of each image as one row of logits.

    Args:
        node: The softmax or sigmoid.
        shape: Shape of its input, batch axis first; None for an unknown length.
        count: Number of values that the network returns per image.
        version: Version of the operators: a softmax before 13 runs over its axis and all that
            follow.

    Raises:
        NavMonitorError: It is a softmax over the images of a batch.
    """
    if not shape or math.prod(length or 0 for length in shape[1:]) != count:
        return False  # it runs at several positions, which the output summarises
    if node.op_type == 'Sigmoid':
        return True  # element-wise
    default = -1 if version >= _ONE_AXIS else 1
    axis = next((a.i for a in node.attribute if a.name == 'axis'), default)
    axis += len(shape) if axis < 0 else 0
    together = shape[axis : axis + 1] if version >= _ONE_AXIS else shape[axis:]
    if axis == 0 and (version >= _ONE_AXIS or shape[0] != 1):
        raise NavMonitorError(
            'the network ends in a softmax over the images of a batch (axis 0), so a single image '
            'has no class scores; export it with the softmax over the classes (axis 1)'
        )
    return math.prod(length or 0 for length in together) == count


@dataclass(frozen=True)
class LinearHead:
    """The last linear layer of a graph."""

    weight: np.ndarray  # float32 (C, D)
    bias: np.ndarray  # float32 (C,)


class GraphTail:
    """The end of a graph, traversed backwards from its output."""

    def __init__(self, producers: Mapping[str, Any], initializers: Mapping[str, Any]) -> None:
        """Set the producer of each tensor, node or constant, by the tensor's name."""
        self._producers = producers
        self._initializers = initializers

    @staticmethod
    def _shapes(node: Any) -> bool:
        """Return whether a node keeps the values and their order."""
        if node.op_type == 'Cast':
            return any(a.name == 'to' and a.i in floating() for a in node.attribute)
        return node.op_type in _SHAPING

    def squashing(self, output: str) -> Any | None:
        """Return the softmax or sigmoid node that produces an output; None without one."""
        name, undoing = output, ''
        while (node := self._producers.get(name)) is not None:
            if node.op_type in _SQUASHING:
                return node if undoing in ('', node.op_type) else None
            if node.op_type in _UNDONE and not undoing:
                undoing = _UNDONE[node.op_type]
            elif not self._shapes(node):
                return None
            name = node.input[0]
        return None

    def linear(self, logits: str) -> tuple[str, LinearHead] | None:
        """Return the input and the weights of the linear layer that produces logits.

        A temperature between the layer and the logits is part of the weights.
        """
        name, scale = logits, np.float32(1)
        while True:
            found = self._linear_before(name)
            if found is not None:
                entering, head = found
                return entering, LinearHead(head.weight * scale, head.bias * scale)
            node = self._producers.get(name)
            if node is None:
                return None
            if self._shapes(node):
                name = node.input[0]
                continue
            scaled = self._scaled(node)
            if scaled is None:
                return None
            name, scale = scaled[0], scale * scaled[1]

    def _scaled(self, node: Any) -> tuple[str, np.float32] | None:
        """Return the tensor that a node multiplies or divides by a scalar, and the factor."""
        if node.op_type not in {'Mul', 'Div'}:
            return None
        for one, other in ((1, 0), (0, 1))[: 1 if node.op_type == 'Div' else 2]:
            factor = self.constant(node.input[one])
            if factor is not None and factor.size == 1 and factor.reshape(-1)[0]:
                value = factor.reshape(-1)[0]
                return node.input[other], np.float32(1 / value if node.op_type == 'Div' else value)
        return None

    def _linear_before(self, name: str) -> tuple[str, LinearHead] | None:
        """Return the input and the weights of the linear layer that produces a tensor."""
        node = self._producers.get(name)
        while node is not None and node.op_type == 'Identity':
            node = self._producers.get(node.input[0])
        if node is None:
            return None
        if node.op_type == 'Gemm':
            return self._gemm(node)
        bias = None
        if node.op_type == 'Add':
            for one, other in ((0, 1), (1, 0)):
                bias, product = self.constant(node.input[one]), node.input[other]
                if bias is not None:
                    node = self._producers.get(product)
                    break
        if node is None or node.op_type != 'MatMul':
            return None
        weight = self.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            return None
        bias = np.zeros(weight.shape[1], np.float32) if bias is None else bias.reshape(-1)
        if len(bias) != weight.shape[1]:
            return None
        return node.input[0], LinearHead(np.ascontiguousarray(weight.T), bias)

    def _gemm(self, node: Any) -> tuple[str, LinearHead] | None:
        options = {attribute.name: attribute for attribute in node.attribute}
        if 'transA' in options and options['transA'].i:
            return None
        weight = self.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            return None
        weight = weight if 'transB' in options and options['transB'].i else weight.T
        weight = weight * np.float32(options['alpha'].f if 'alpha' in options else 1)
        bias: np.ndarray = np.zeros(len(weight), np.float32)
        if len(node.input) > 2 and node.input[2]:
            found = self.constant(node.input[2])
            if found is None or found.size not in (1, len(bias)):
                return None
            scale = np.float32(options['beta'].f if 'beta' in options else 1)
            bias = bias + found.reshape(-1) * scale
        return node.input[0], LinearHead(np.ascontiguousarray(weight), bias)

    def constant(self, name: str) -> np.ndarray | None:
        """Return the values of a tensor that does not depend on the image, float32."""
        from onnx import numpy_helper

        if name in self._initializers:
            return np.asarray(numpy_helper.to_array(self._initializers[name]), np.float32)
        node = self._producers.get(name)
        if node is None:
            return None
        if node.op_type == 'Constant' and node.attribute and node.attribute[0].name == 'value':
            return np.asarray(numpy_helper.to_array(node.attribute[0].t), np.float32)
        if node.op_type in {'Identity', 'Transpose'}:
            found = self.constant(node.input[0])
            if found is None or node.op_type == 'Identity':
                return found
            order = next((list(a.ints) for a in node.attribute if a.name == 'perm'), None)
            return found.transpose(order)
        return None
