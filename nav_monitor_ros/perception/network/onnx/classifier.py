"""A network in ONNX form, with the interface of ``Classifier`` but without torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.perception.network.backends import Engine, Runner, compiled
from nav_monitor_ros.perception.network.canonical_form import (
    agree,
    canonical_head,
    class_logits,
)
from nav_monitor_ros.perception.network.forward_checks import require_repeatable
from nav_monitor_ros.perception.network.layers import (
    PENULTIMATE,
    Layer,
    LayerId,
    background_output,
    find_layer,
    names_of,
)
from nav_monitor_ros.perception.network.logits import form_of, logits_of, require_several
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

_KEPT = 3  # compiled graphs: the live views switch between one with maps and one without

Output = tuple[str, 'tuple[int, ...]']  # tensor, and the axes over which the mean is taken


class OnnxClassifier:
    """A network's graph with its preprocessing, whose layers can be tapped.

    Logits, features, head, channel means and maps are those of ``Classifier``. Every set of outputs
    has its own graph, compiled on first use, so that the backend can fuse operations whose results
    are not requested.

    Not thread-safe: a single thread must run it and set its taps.
    """

    device: object = 'cpu'

    def __init__(
        self,
        graph: OnnxGraph,
        preprocess: Preprocess,
        *,
        engine: Engine,
        layer: LayerId = PENULTIMATE,
        background: int | None = None,
        threads: int = 1,
    ) -> None:
        """Prepare a graph for running.

        Args:
            graph: Graph exported by ``export_onnx``, or that of any image classifier.
            preprocess: Preprocessing of the network's input.
            engine: Engine that runs it.
            layer: The monitored layer: ``penultimate``, a name or a 1-based number.
            background: Index of the output for everything that belongs to no class.
            threads: Number of threads of the backend; 0 for its default.

        Raises:
            NavMonitorError: The graph takes other images, lacks the layer or output, is random, or
                depends on the whole batch.
        """
        self.preprocess = preprocess
        self.engine = engine
        channels = len(preprocess.mean)
        self.input_shape: tuple[int, ...] = (channels, preprocess.height, preprocess.width)
        if graph.input_shape != self.input_shape:
            if len(graph.input_shape) == 3 and graph.input_shape[2] in (1, 3, 4) and (
                graph.input_shape[0] > 4
            ):
                raise NavMonitorError(
                    f'the network takes images of shape {graph.input_shape}, channels last; export '
                    'it with channels first (tf2onnx: --inputs-as-nchw)'
                )
            raise NavMonitorError(
                f'the network takes images of shape {graph.input_shape} (channels, height, width), '
                f'but the preprocessing makes {self.input_shape}; check --size and --color'
            )
        self._graph = graph
        self._threads = threads
        self.layers: tuple[Layer, ...] = graph.layers
        self.inputs: tuple[Layer, ...] = graph.inputs
        self.background = background_output(background, graph.outputs)
        require_several(graph.outputs)
        self._columns = [i for i in range(graph.outputs) if i != self.background]
        self.classes = len(self._columns)
        self.layer, self._features, self.width = self._monitored(layer)
        self._watched: tuple[str, ...] = ()
        self._taps: tuple[str, ...] = ()
        self._passes = 0
        self._compiled: OrderedDict[tuple[Output, ...], Runner] = OrderedDict()
        self._compiled_for = {threads: self._compiled}  # compiled graphs by number of threads
        self._outputs = self._wanted()
        self.unit = 1.0  # factor on the features
        self.head: Head | None = None
        self.own_head = self._head_of_monitored()
        if self.own_head is not None:
            self.head, self.unit = canonical_head(self.own_head)
        if graph.form is None:
            graph.note_form(self._seen_form())
        if not graph.described and graph.batch in (None, 1):
            # For other networks, ``export`` has compared the graph with torch.
            require_repeatable(self, rough=True)

    def __call__(self, batch: np.ndarray) -> Activations:
        """Run one forward pass.

        Args:
            batch: float32 (N, channels, height, width), as ``Preprocess.apply`` makes them.

        Returns:
            Logits, monitored features, the watched layers' channel means and the tapped maps.
        """
        batch = np.ascontiguousarray(batch, dtype=np.float32)
        values = iter(self._run(self._outputs, batch))
        logits, features = _rows(next(values)), next(values)
        if self.layer == PENULTIMATE:
            features = _rows(features)
        if self.unit != 1:
            features = features * np.float32(self.unit)
        if self._graph.form is not None:
            logits = logits_of(logits, self._graph.form)
        logits, shift, background = class_logits(logits, self._columns, self.background)
        means = {name: next(values) for name in self._watched}
        samples = next(values) if self._passes else None
        maps = {name: next(values) for name in self._taps}
        if samples is not None:
            samples = class_logits(samples, self._columns, self.background)[0]
        return Activations(logits, features, means, maps, samples, background, shift)

    def watch(self, layers: Iterable[LayerId]) -> None:
        """Yield the channel means of additional layers in every forward pass.

        Args:
            layers: Names or 1-based numbers, or names of values that enter layers.

        Raises:
            NavMonitorError: A layer does not exist.
        """
        found = names_of(self.layers, layers, self.inputs)
        self._watched = tuple(dict.fromkeys((*self._watched, *found)))
        self._outputs = self._wanted()

    def sample_dropout(self, passes: int, seed: int = 0) -> None:
        """Yield the logits of K passes with active dropout in every forward pass.

        Args:
            passes: K; 0 switches it off.
            seed: Random seed for the dropout masks, which are part of the graph.

        Raises:
            NavMonitorError: The graph has no such passes, or a different number.
        """
        if passes and (passes != self._graph.passes or seed):
            has = f'has {self._graph.passes}' if self._graph.passes else 'has none'
            raise NavMonitorError(
                f'mc_dropout: {passes} passes with dropout are requested, but the network in ONNX '
                f'form {has}; export it again, or leave this score out (--scores)'
            )
        self._passes = passes
        self._outputs = self._wanted()

    def use_threads(self, count: int, *, trying: bool = False) -> None:
        """Set the number of threads on the CPU, starting with the next pass.

        Args:
            count: Number of threads, at least 1.
            trying: Also keep graphs compiled for other numbers.
        """
        self._threads = count
        self._compiled = self._compiled_for.setdefault(count, OrderedDict())
        if not trying:
            self._compiled_for = {count: self._compiled}

    def tap(self, layers: Iterable[LayerId]) -> None:
        """Set the layers whose maps are kept, starting with the next forward pass.

        Args:
            layers: Names or 1-based numbers; an empty iterable taps none.

        Raises:
            NavMonitorError: A layer does not exist; the taps are unchanged.
        """
        self._taps = names_of(self.layers, layers, self.inputs)
        self._outputs = self._wanted()

    def fingerprint(self) -> str:
        """Return the SHA-256 of the graph, hexadecimal."""
        return self._graph.fingerprint()

    def save(self, path: Path) -> None:
        """Write the whole graph, unchanged.

        Raises:
            OSError: The file cannot be written.
        """
        self._graph.save(path)

    @property
    def taps(self) -> tuple[str, ...]:
        """Return the names of the tapped layers."""
        return self._taps

    @property
    def columns(self) -> tuple[int, ...]:
        """Return the network's outputs for the classes, in order."""
        return tuple(self._columns)

    @property
    def network(self) -> nn.Module:
        """Raise, since there is no torch network.

        Raises:
            NavMonitorError: Always.
        """
        raise NavMonitorError(
            'gradients need torch, and this network is in ONNX form; give the network as '
            'torchvision:NAME or package.module:factory, with its weights'
        )

    def _head_of_monitored(self) -> Head | None:
        """Return the network's own head if it acts on the monitored features (or their ReLU)."""
        found, entering = self._graph.head(), self._graph.entering
        if found is None or entering is None:
            return None
        rectified = False
        if self.layer != PENULTIMATE:
            if self.width != found.weight.shape[1]:
                return None
            shape = (1 if self._graph.batch else 4, *self.input_shape)
            probe = np.random.default_rng(0).random(shape, dtype=np.float32)
            features, before = self._run((self._features, (entering, ())), probe)
            before = _rows(before)
            if features.shape != before.shape:
                return None
            rectified = not agree(features, before)
            if rectified and not agree(np.maximum(features, 0), before):
                return None
        return Head(found.weight[self._columns], found.bias[self._columns], rectified=rectified)

    def _seen_form(self) -> str:
        """Return the form of the outputs from their values; softmax has many spellings."""
        shape = (self._graph.batch or 4, *self.input_shape)
        probe = np.random.default_rng(0).random(shape, dtype=np.float32)
        (outputs,) = self._run(((self._graph.logits, ()),), probe)
        return form_of(_rows(outputs))

    def _monitored(self, layer: LayerId) -> tuple[str, Output, int]:
        """Return the monitored layer's name, its output, and its number of neurons."""
        if layer != PENULTIMATE:
            found = find_layer(self.layers, layer, also=(PENULTIMATE,))
            output = (self._graph.tensor(found.name), found.position_axes)
            return found.name, output, found.channels
        head = self._graph.head()
        if self._graph.entering is None or head is None:
            raise NavMonitorError(
                'the network does not end in a linear layer, so its penultimate layer is unknown; '
                'name the layer to monitor (--layer), one of '
                + ', '.join(f'{known.number} {known.name}' for known in self.layers)
            )
        return PENULTIMATE, (self._graph.entering, ()), head.weight.shape[1]

    def _wanted(self) -> tuple[Output, ...]:
        """Return the outputs in the order in which ``__call__`` expects them."""
        known = {layer.name: layer for layer in (*self.inputs, *self.layers)}
        samples = [(self._graph.samples, ())] if self._passes and self._graph.samples else []
        return (
            (self._graph.logits, ()),
            self._features,
            *((self._graph.tensor(name), known[name].position_axes) for name in self._watched),
            *samples,
            *((self._graph.tensor(name), ()) for name in self._taps),
        )

    def _run(self, outputs: tuple[Output, ...], batch: np.ndarray) -> Sequence[np.ndarray]:
        runner = self._compiled.get(outputs)
        if runner is None:
            runner = compiled(self.engine, self._graph.select(outputs), self._threads)
            while len(self._compiled) >= _KEPT:
                self._compiled.popitem(last=False)
            self._compiled[outputs] = runner
        self._compiled.move_to_end(outputs)
        if self._graph.batch in (None, len(batch)):
            return runner(batch)
        if self._graph.batch != 1:
            raise NavMonitorError(
                f'the network takes {self._graph.batch} images at a time; export it with a '
                'dynamic batch axis'
            )
        parts = [runner(batch[i : i + 1]) for i in range(len(batch))]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)
