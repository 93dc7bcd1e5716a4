"""A network as an ONNX file: read without trust, and cut to the outputs that somebody wants."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.layers import Layer

if TYPE_CHECKING:
    import onnx

LARGEST_FILE = 1 << 30  # bytes
LARGEST_TENSOR = 1 << 28  # elements of one image's tensor
DESCRIPTION = 'nav_monitor'  # key of the file's metadata under which ``export`` describes it
_DOMAINS = {'', 'ai.onnx'}  # of the operators that every runtime has
_LOOPS = {'Loop', 'Scan'}
_AFTER_HEAD = {'Softmax', 'LogSoftmax', 'Identity', 'Cast', 'Squeeze', 'Reshape', 'Flatten'}


def require_onnx() -> None:
    """Check that ONNX files can be read.

    Raises:
        NavMonitorError: The package ``onnx`` is missing.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise NavMonitorError(
            f'networks in ONNX form need the package onnx ({error}); pip install onnx, or '
            'nav_monitor_ros[backends]'
        ) from None


@dataclass(frozen=True)
class LinearHead:
    """The last linear layer of a graph."""

    weight: np.ndarray  # float32 (C, D)
    bias: np.ndarray  # float32 (C,)


class OnnxGraph:
    """A network's graph, with the names of the tensors that a monitor looks at."""

    layers: tuple[Layer, ...]
    logits: str  # the last linear layer's output, or the graph's own where there is none
    entering: str | None  # what enters that layer
    samples: str | None  # logits of ``passes`` passes with dropout on, (N, passes, outputs)
    passes: int
    outputs: int  # of the network, a background class among them
    input_shape: tuple[int, ...]  # of one image
    batch: int | None  # images that one pass takes; None for any number

    def __init__(self, model: onnx.ModelProto, what: str) -> None:
        """Take the graph of a model apart.

        Args:
            model: Checked, without data outside the file.
            what: Name for messages.

        Raises:
            NavMonitorError: It is not the graph of an image classifier.
        """
        self._model = model
        self._what = what
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._input = self._find_input()
        self._tensors: dict[str, str] = {}
        described = {p.key: p.value for p in model.metadata_props}.get(DESCRIPTION)
        if described is None:
            self._dissect()
        else:
            self._restore(described)

    @classmethod
    def read(cls, path: Path) -> OnnxGraph:
        """Read a file; nothing outside of it is opened.

        Raises:
            NavMonitorError: It is missing, too large, no ONNX model, refers to other files, uses
                operators of its own, or is not an image classifier.
        """
        require_onnx()
        import onnx

        try:
            size = path.stat().st_size
            if size > LARGEST_FILE:
                raise NavMonitorError(f'{path} has {size} bytes; networks up to {LARGEST_FILE} '
                                      'are read')
            content = path.read_bytes()
        except OSError as error:
            raise NavMonitorError(f'network {path} cannot be read: {error.strerror}') from None
        try:
            model = onnx.ModelProto.FromString(content)
        except Exception:  # protobuf's own class, from whichever of its implementations is in use
            raise NavMonitorError(f'network {path} is not an ONNX file') from None
        _require_own_data(model, path)
        try:
            onnx.checker.check_model(model)
        except Exception as error:  # the checker raises what it likes
            raise NavMonitorError(
                f'network {path} is no valid ONNX model: {_line(error)}'
            ) from None
        if any(node.op_type in _LOOPS for node in _every_node(model.graph)):
            raise NavMonitorError(
                f'network {path} has loops, of which nobody can tell whether they end; export it '
                'without them'
            )
        foreign = {o.domain for o in model.opset_import} - _DOMAINS
        used = {node.domain for node in _every_node(model.graph)} & foreign
        if used or model.functions:
            raise NavMonitorError(
                f'network {path} uses operators that are not of ONNX itself '
                f'({", ".join(sorted(used)) or "functions"}); export it without them'
            )
        try:
            return cls(model, str(path))
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            # Texts that are no UTF-8, arrays of another length than their shape, and the like.
            raise NavMonitorError(f'network {path} is malformed: {_line(error)}') from None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the model as it is written, hexadecimal."""
        return hashlib.sha256(self._model.SerializeToString(deterministic=True)).hexdigest()

    def save(self, path: Path) -> None:
        """Write the model as it was read.

        Raises:
            OSError: The file cannot be written.
        """
        path.write_bytes(self._model.SerializeToString())

    def tensor(self, layer: str) -> str:
        """Return the name of a layer's output."""
        return self._tensors[layer]

    def head(self) -> LinearHead | None:
        """Return the last linear layer, None where the network does not end in one."""
        found = self._linear_before(self.logits)
        return None if found is None else found[1]

    def select(self, outputs: Sequence[tuple[str, int | None]]) -> bytes:
        """Return a model that computes these outputs, and nothing else.

        Args:
            outputs: Names of tensors, each with the rank of which the mean over positions is taken
                (``Classifier``: channels first, tokens last), or None for the tensor as it is.

        Returns:
            The serialised model; its outputs are in this order.
        """
        import onnx
        from onnx import helper

        graph = self._model.graph
        keep, initializers = self._needed([name for name, _ in outputs])
        nodes = [node for index, node in enumerate(graph.node) if index in keep]
        constants = [self._initializers[name] for name in initializers]
        version = next(o.version for o in self._model.opset_import if o.domain in _DOMAINS)
        results = []
        for number, (name, rank) in enumerate(outputs):
            result = f'selected_{number}'
            axes = None if rank is None or rank < 3 else [1] if rank == 3 else list(range(2, rank))
            if axes is None:
                nodes.append(helper.make_node('Identity', [name], [result]))
            elif version < 18:
                nodes.append(
                    helper.make_node('ReduceMean', [name], [result], axes=axes, keepdims=0)
                )
            else:
                constants.append(
                    helper.make_tensor(f'{result}_axes', onnx.TensorProto.INT64, [len(axes)], axes)
                )
                nodes.append(helper.make_node(
                    'ReduceMean', [name, f'{result}_axes'], [result], keepdims=0
                ))
            results.append(helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None))
        cut = helper.make_model(
            helper.make_graph(nodes, 'selected', [self._input], results, constants),
            opset_imports=self._model.opset_import, ir_version=self._model.ir_version,
        )
        return cut.SerializeToString()

    def _find_input(self) -> Any:
        import onnx

        inputs = [i for i in self._model.graph.input if i.name not in self._initializers]
        kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
        if kind is None or kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) != 4:
            raise NavMonitorError(
                f'{self._what} does not take one float32 input of shape '
                '(images, channels, height, width)'
            )
        return inputs[0]

    def _take_input(self, shape: Sequence[int | None], what: str) -> None:
        if len(shape) != 4 or any(not n or n < 0 for n in shape[1:]):
            raise NavMonitorError(
                f'{what} does not say of how many channels and pixels its input is; export it with '
                'a fixed height and width'
            )
        self.batch = shape[0]
        self.input_shape = tuple(int(n or 0) for n in shape[1:])

    def _restore(self, described: str) -> None:
        """Read what ``export`` wrote of the graph.

        Raises:
            NavMonitorError: It is malformed.
        """
        try:
            read = json.loads(described)
            names = {output.name for output in self._model.graph.output}
            self.logits, self.entering = str(read['logits']), read['entering']
            self.samples, self.passes = read['samples'], int(read['passes'])
            self.outputs = int(read['outputs'])
            layers = [
                Layer(number, str(one['name']), str(one['kind']), tuple(map(int, one['shape'])))
                for number, one in enumerate(read['layers'], start=1)
            ]
            self._tensors = {one['name']: str(one['tensor']) for one in read['layers']}
            named = {self.logits, self.entering, self.samples, *self._tensors.values()} - {None}
            if not named <= names or self.passes < 0 or self.outputs < 1:
                raise ValueError('it names outputs that are not there')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NavMonitorError(f'{self._what} is malformed: {_line(error)}; export it again'
                                  ) from None
        self.layers = tuple(layers)
        self._take_input(_shape(self._input), self._what)

    def _dissect(self) -> None:
        """Find layers and head in a graph that somebody else made.

        Raises:
            NavMonitorError: Shapes cannot be inferred, or the output is no row of class scores.
        """
        import onnx

        self._take_input(_shape(self._input), self._what)
        try:
            inferred = onnx.shape_inference.infer_shapes(
                self._model, check_type=True, strict_mode=True, data_prop=True
            )
        except Exception as error:  # likewise
            raise NavMonitorError(f'{self._what}: its shapes contradict each other: {_line(error)}'
                                  ) from None
        graph = inferred.graph
        infos = {info.name: info for info in [*graph.value_info, *graph.output]}
        for info in infos.values():
            if math.prod(n or 1 for n in _shape(info)) > LARGEST_TENSOR:
                raise NavMonitorError(
                    f'{self._what}: the tensor {_line(info.name)} would be too large'
                )
        layers: list[Layer] = []
        taken: set[str] = set()
        for node in self._model.graph.node:
            tensor = node.output[0]
            info = infos.get(tensor)
            if info is None or info.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
                continue
            shape = _shape(info)
            first = shape[0] if shape else None
            if len(shape) < 2 or (self.batch and first != self.batch) or not all(shape[1:]):
                continue
            if self.batch is None and first is not None:
                continue  # a constant, not one row an image
            name = node.name if node.name and node.name not in taken else tensor
            if name in taken or not name.isprintable():
                continue
            taken.add(name)
            self._tensors[name] = tensor
            layers.append(
                Layer(len(layers) + 1, name, node.op_type, tuple(int(n or 0) for n in shape[1:]))
            )
        self.layers = tuple(layers)
        self.samples, self.passes = None, 0
        output = self._model.graph.output[0]
        shape = _shape(infos.get(output.name, output))
        if len(shape) != 2 or not shape[1]:
            raise NavMonitorError(
                f'{self._what} does not return one row of class scores an image, but '
                f'{[n or "N" for n in shape]}'
            )
        self.outputs = shape[1]
        self.logits, self.entering = output.name, None
        found = self._head_of(output.name)
        if found is not None:
            self.logits, self.entering = found

    def _head_of(self, output: str) -> tuple[str, str] | None:
        """Return the tensors of logits and of what enters the last linear layer."""
        name = output
        while True:
            linear = self._linear_before(name)
            if linear is not None:
                return name, linear[0]
            node = self._producers.get(name)
            if node is None or node.op_type not in _AFTER_HEAD:
                return None
            name = node.input[0]

    def _linear_before(self, name: str) -> tuple[str, LinearHead] | None:
        """Return what enters the linear layer that yields a tensor, and its weights."""
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
                bias, product = self._constant(node.input[one]), node.input[other]
                if bias is not None:
                    node = self._producers.get(product)
                    break
        if node is None or node.op_type != 'MatMul':
            return None
        weight = self._constant(node.input[1])
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
        weight = self._constant(node.input[1])
        if weight is None or weight.ndim != 2:
            return None
        weight = weight if 'transB' in options and options['transB'].i else weight.T
        weight = weight * np.float32(options['alpha'].f if 'alpha' in options else 1)
        bias: np.ndarray = np.zeros(len(weight), np.float32)
        if len(node.input) > 2 and node.input[2]:
            found = self._constant(node.input[2])
            if found is None or found.size not in (1, len(bias)):
                return None
            scale = np.float32(options['beta'].f if 'beta' in options else 1)
            bias = bias + found.reshape(-1) * scale
        return node.input[0], LinearHead(np.ascontiguousarray(weight), bias)

    def _constant(self, name: str) -> np.ndarray | None:
        from onnx import numpy_helper

        if name in self._initializers:
            return np.asarray(numpy_helper.to_array(self._initializers[name]), np.float32)
        node = self._producers.get(name)
        if node is None:
            return None
        if node.op_type == 'Constant' and node.attribute and node.attribute[0].name == 'value':
            return np.asarray(numpy_helper.to_array(node.attribute[0].t), np.float32)
        if node.op_type in {'Identity', 'Transpose'}:
            found = self._constant(node.input[0])
            if found is None or node.op_type == 'Identity':
                return found
            order = next((list(a.ints) for a in node.attribute if a.name == 'perm'), None)
            return found.transpose(order)
        return None

    def _needed(self, names: Iterable[str]) -> tuple[set[int], list[str]]:
        """Return which nodes and initializers some tensors are made of."""
        places = {
            name: place for place, node in enumerate(self._model.graph.node) for name in node.output
        }
        keep: set[int] = set()
        initializers: dict[str, None] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in self._initializers:
                initializers[name] = None
            elif name in places and places[name] not in keep:
                keep.add(places[name])
                waiting += _read_by(self._model.graph.node[places[name]])
        return keep, list(initializers)


def described(
    layers: Sequence[Layer], tensors: Mapping[str, str], *, logits: str, entering: str | None,
    samples: str | None, passes: int, outputs: int,
) -> str:
    """Return the text under ``DESCRIPTION`` that names a graph's tensors, for ``OnnxGraph``."""
    return json.dumps({
        'layers': [
            {'name': one.name, 'kind': one.kind, 'shape': one.shape, 'tensor': tensors[one.name]}
            for one in layers
        ],
        'logits': logits, 'entering': entering, 'samples': samples, 'passes': passes,
        'outputs': outputs,
    })


def _read_by(node: Any) -> list[str]:
    """Return the names of all tensors that a node reads, those of its branches among them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                names += _read_by(inner)
    return names


def _every_node(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _every_node(inner)


def _require_own_data(model: Any, path: Path) -> None:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    if any(uses_external_data(tensor) for tensor in _get_all_tensors(model)):
        raise NavMonitorError(
            f'network {path} keeps its weights in another file; save it with them inside '
            '(onnx.save without external data)'
        )


def _shape(info: Any) -> list[int | None]:
    dims = info.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField('dim_value') else None for dim in dims]


def _line(what: object) -> str:
    return one_line(what)
