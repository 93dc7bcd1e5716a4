"""The graph of a network in ONNX form, and selection of the part that yields given outputs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.layers import Layer
from nav_monitor_ros.perception.network.logits import CLASSIFIERS, FORMS, LOGITS, OutputName
from nav_monitor_ros.perception.network.onnx.flowing_values import flowing_values
from nav_monitor_ros.perception.network.onnx.head import (
    GraphTail,
    LinearHead,
    floating,
    runs_over_all,
)
from nav_monitor_ros.perception.network.onnx.positions import ChannelAxis, channel_axes
from nav_monitor_ros.perception.network.onnx.untrusted_model import DOMAINS, read_model

if TYPE_CHECKING:
    import onnx

_SMALL = 4096  # largest number of elements of a constant that is compared with others
LARGEST_TENSOR = 1 << 28  # largest number of elements of one image's tensor
DESCRIPTION = 'nav_monitor'  # metadata key for the description by ``export``
FORM = 'nav_monitor_outputs'  # metadata key for the form of the outputs of other networks


class OnnxGraph:
    """A network's graph, with the names of the tensors that a monitor uses."""

    layers: tuple[Layer, ...]
    inputs: tuple[Layer, ...]  # distinct values that enter layers with weights
    logits: str  # tensor of the logits: before a softmax, if one is recognised
    form: str | None  # its form, one of ``outputs.FORMS``; None if only its values tell
    entering: str | None  # input of that layer
    samples: str | None  # logits of ``passes`` passes with active dropout, (N, passes, outputs)
    passes: int
    outputs: int  # number of outputs, including a background class
    input_shape: tuple[int, ...]  # of one image
    batch: int | None  # batch size; None for any number
    described: bool  # exported by ``export_onnx``, whose torch network was checked

    def __init__(
        self, model: onnx.ModelProto, what: str, output: OutputName | None = None
    ) -> None:
        """Analyse the graph of a model.

        Args:
            model: Validated model, without data outside the file.
            what: Name for messages.
            output: Output with the class scores, if there are several.

        Raises:
            NavMonitorError: It is not the graph of an image classifier.
        """
        self._model = model
        self._what = what
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        # Versions of the operators; a file without any has no nodes either.
        self._version = max((o.version for o in model.opset_import if o.domain in DOMAINS),
                            default=1)
        self._input = self._find_input()
        self._tail = GraphTail(self._producers, self._initializers)
        self._tensors: dict[str, str] = {}
        noted = {p.key: p.value for p in model.metadata_props}
        self.described = DESCRIPTION in noted
        if self.described:
            self._restore(noted[DESCRIPTION])
        else:
            self._dissect(self._chosen(output), noted.get(FORM))

    @classmethod
    def read(
        cls, path: Path, *, output: OutputName | None = None, beside: bool = False
    ) -> OnnxGraph:
        """Read a file.

        Args:
            path: Path of the file.
            output: Number or name of the output with the class scores, if there are several.
            beside: Whether weights may be in other files of its folder, as for a user's own
                network; otherwise only the file is opened.

        Raises:
            NavMonitorError: It is missing, too large, not an ONNX model, refers to other files,
                uses custom operators, or is not an image classifier.
        """
        model = read_model(path, beside=beside)
        try:
            return cls(model, str(path), output)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            # Strings that are not UTF-8, arrays whose length differs from their shape, and the
            # like.
            raise NavMonitorError(f'network {path} is malformed: {_line(error)}') from None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the written model, hexadecimal."""
        return hashlib.sha256(self._model.SerializeToString(deterministic=True)).hexdigest()

    def save(self, path: Path) -> None:
        """Write the model, unchanged.

        Raises:
            OSError: The file cannot be written.
        """
        path.write_bytes(self._model.SerializeToString())

    def tensor(self, layer: str) -> str:
        """Return the name of a layer's output, or of a value that enters a layer."""
        return self._tensors[layer]

    def head(self) -> LinearHead | None:
        """Return the last linear layer, None if the network does not end in one."""
        found = self._tail.linear(self.logits)
        return None if found is None else found[1]

    def note_form(self, form: str) -> None:
        """Store the form of the values of ``logits`` in the model's metadata."""
        self.form = form
        entry = self._model.metadata_props.add()
        entry.key, entry.value = FORM, form

    def select(self, outputs: Sequence[tuple[str, tuple[int, ...]]]) -> bytes:
        """Return a model that computes only these outputs.

        Args:
            outputs: Names of tensors, each with the axes over which the mean is taken; none for the
                unchanged tensor.

        Returns:
            The serialised model; its outputs are in this order.
        """
        import onnx
        from onnx import helper

        graph = self._model.graph
        keep, initializers = self._needed([name for name, _ in outputs])
        nodes = [node for index, node in enumerate(graph.node) if index in keep]
        constants = [self._initializers[name] for name in initializers]
        results = []
        for number, (name, axes) in enumerate(outputs):
            result = f'selected_{number}'
            # In float32, even if the network computes in float16, where a sum would overflow.
            single = f'{result}_single' if axes else result
            nodes.append(helper.make_node('Cast', [name], [single], to=onnx.TensorProto.FLOAT))
            if axes and self._version < 18:
                nodes.append(
                    helper.make_node('ReduceMean', [single], [result], axes=axes, keepdims=0)
                )
            elif axes:
                constants.append(
                    helper.make_tensor(f'{result}_axes', onnx.TensorProto.INT64, [len(axes)], axes)
                )
                nodes.append(helper.make_node(
                    'ReduceMean', [single, f'{result}_axes'], [result], keepdims=0
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
                f'{what} does not state the number of channels and pixels of its input; export it '
                'with '
                'a fixed height and width'
            )
        self.batch = shape[0]
        self.input_shape = tuple(int(n or 0) for n in shape[1:])

    def _restore(self, described: str) -> None:
        """Read the description written by ``export``.

        Raises:
            NavMonitorError: It is malformed.
        """
        try:
            read = json.loads(described)
            names = {output.name for output in self._model.graph.output}
            self.logits, self.entering = str(read['logits']), read['entering']
            self.samples, self.passes = read['samples'], int(read['passes'])
            self.outputs = int(read['outputs'])
            self.layers, self.inputs = (
                tuple(
                    Layer(
                        number, str(one['name']), str(one['kind']), tuple(map(int, one['shape'])),
                        bool(one.get('channels_last')), _grid_of(one.get('grid')),
                    )
                    for number, one in enumerate(read[part], start=1)
                )
                for part in ('layers', 'inputs')
            )
            self._tensors = {
                one['name']: str(one['tensor']) for one in (*read['inputs'], *read['layers'])
            }
            named = {self.logits, self.entering, self.samples, *self._tensors.values()} - {None}
            if not named <= names or self.passes < 0 or self.outputs < 1:
                raise ValueError('it names outputs that do not exist')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NavMonitorError(f'{self._what} is malformed: {_line(error)}; export it again'
                                  ) from None
        self.form = LOGITS
        self._take_input(_shape(self._input), self._what)

    def _chosen(self, wanted: OutputName | None) -> Any:
        """Return the output with the class scores.

        Raises:
            NavMonitorError: There are several and none is named, or the name does not exist.
        """
        outputs = list(self._model.graph.output)
        listed = ', '.join(
            f'{number} {_line(o.name)} {[n or "N" for n in _shape(o)]}'
            for number, o in enumerate(outputs)
        )
        if wanted is None and len(outputs) > 1:
            raise NavMonitorError(
                f'{self._what} has several outputs ({listed}); name the one with the class scores '
                f'(--output-index); {CLASSIFIERS}'
            )
        if isinstance(wanted, str):
            for output in outputs:
                if output.name == wanted:
                    return output
        elif -len(outputs) <= (wanted or 0) < len(outputs):
            return outputs[wanted or 0]
        raise NavMonitorError(
            f"{self._what} has no output '{_line(wanted)}'; it has {listed} (--output-index)"
        )

    def _dissect(self, output: Any, form: str | None) -> None:
        """Find the layers and the head in a graph not written by ``export``.

        Args:
            output: Output with the class scores.
            form: Form stored by ``note_form``, None if it was not.

        Raises:
            NavMonitorError: Shapes cannot be inferred, or the output is not a row of class scores.
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
        known = {
            info.name: _shape(info) for info in [self._input, *infos.values()]
            if info.type.tensor_type.elem_type in floating()
        }
        axes = channel_axes(self._model.graph.node, self._input.name, known)
        layers: list[Layer] = []
        taken: set[str] = set()
        for node in self._model.graph.node:
            tensor = node.output[0]
            info = infos.get(tensor)
            if info is None or info.type.tensor_type.elem_type not in floating():
                continue
            shape = _shape(info)
            first = shape[0] if shape else None
            if len(shape) < 2 or (self.batch and first != self.batch) or not all(shape[1:]):
                continue
            if self.batch is None and first is not None:
                continue  # a constant, not one row per image
            name = node.name if node.name and node.name not in taken else tensor
            if name in taken or not name.isprintable():
                continue
            taken.add(name)
            self._tensors[name] = tensor
            layers.append(_layer(len(layers) + 1, name, node.op_type, shape, axes.get(tensor)))
        self.layers = tuple(layers)
        self._find_inputs(known)
        self.samples, self.passes = None, 0
        shape = _shape(infos.get(output.name, output))
        if len(shape) != 2 or not shape[1]:
            kind = ', as segmentation networks do' if len(shape) == 4 else ''
            raise NavMonitorError(
                f'{self._what} does not return one row of class scores for each image, but '
                f'{[n or "N" for n in shape]}{kind}; {CLASSIFIERS}'
            )
        number = infos.get(output.name, output).type.tensor_type.elem_type
        if number not in floating():
            raise NavMonitorError(
                f'{self._what} returns {onnx.TensorProto.DataType.Name(number).lower()} numbers, '
                f'which are no class scores; {CLASSIFIERS}'
            )
        self.outputs = shape[1]
        before = None
        squashing = self._tail.squashing(output.name)
        if squashing is not None:
            entering = infos.get(squashing.input[0], self._input)
            if runs_over_all(squashing, _shape(entering), self.outputs, self._version):
                before = squashing.input[0]
        self.logits = output.name if before is None else before
        head = self._tail.linear(self.logits)
        self.entering = None if head is None else head[0]
        if head is not None and len(head[1].weight) != self.outputs:
            self.entering = None
        self.form = LOGITS if before is not None or self.entering is not None else form
        if self.form not in (None, *FORMS):
            raise ValueError(f'{FORM} is {_line(self.form)}')

    def _find_inputs(self, known: Mapping[str, Sequence[int | None]]) -> None:
        """Find the values that enter nodes with weights.

        Args:
            known: Shapes of the floating-point tensors.
        """
        names = {tensor: name for name, tensor in self._tensors.items()}
        found = flowing_values(
            self._model.graph.node, self._input.name, known, names, self.batch,
            {
                name: _content(tensor) for name, tensor in self._initializers.items()
                if math.prod(tensor.dims) <= _SMALL
            },
        )
        self.inputs = tuple(layer for layer, _ in found)
        self._tensors |= {layer.name: tensor for layer, tensor in found}

    def _needed(self, names: Iterable[str]) -> tuple[set[int], list[str]]:
        """Return the nodes and initializers that some tensors depend on."""
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


def _content(tensor: Any) -> bytes:
    """Return a tensor's type, shape and values."""
    unnamed = type(tensor)()
    unnamed.CopyFrom(tensor)
    unnamed.ClearField('name')
    unnamed.ClearField('doc_string')
    return bytes(unnamed.SerializeToString())


def described(
    layers: Sequence[Layer], inputs: Sequence[Layer], tensors: Mapping[str, str], *, logits: str,
    entering: str | None, samples: str | None, passes: int, outputs: int,
) -> str:
    """Return the description of a graph's tensors for the metadata, as read by ``OnnxGraph``."""
    parts = {
        part: [
            {
                'name': one.name, 'kind': one.kind, 'shape': one.shape, 'tensor': tensors[one.name],
                'channels_last': one.channels_last, 'grid': one.grid,
            }
            for one in values
        ]
        for part, values in (('layers', layers), ('inputs', inputs))
    }
    return json.dumps({
        **parts,
        'logits': logits, 'entering': entering, 'samples': samples, 'passes': passes,
        'outputs': outputs,
    })


def _layer(
    number: int, name: str, kind: str, shape: Sequence[int | None], axis: ChannelAxis | None
) -> Layer:
    """Return the description of a node's output."""
    own = tuple(int(n or 0) for n in shape[1:])
    last = axis is not None and axis.axis == len(own)
    placed = axis is not None and last and (
        own[0] == axis.leading + math.prod(axis.grid) if len(own) == 2 else own[:2] == axis.grid
    )
    return Layer(
        number, name, kind, own, last and len(own) == 3, axis.grid if axis and placed else None
    )


def _grid_of(noted: Any) -> tuple[int, int] | None:
    """Return the grid of tokens in a description."""
    if noted is None:
        return None
    rows, columns = map(int, noted)
    return rows, columns


def _read_by(node: Any) -> list[str]:
    """Return the names of all tensors that a node reads, including those of its branches."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                names += _read_by(inner)
    return names


def _shape(info: Any) -> list[int | None]:
    dims = info.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField('dim_value') else None for dim in dims]


def _line(what: object) -> str:
    return one_line(what)
