"""A network run by torch; one forward pass yields everything that the monitor uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.perception.network.backends import F32, TORCH, Engine
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
from nav_monitor_ros.perception.network.logits import (
    LOGITS,
    require_several,
    torch_logits_of,
)
from nav_monitor_ros.perception.network.torch.device import set_precision
from nav_monitor_ros.perception.network.torch.flowing_values import first_tensor
from nav_monitor_ros.perception.network.torch.pass_values import PassValues, require_consistent
from nav_monitor_ros.perception.network.torch.stochastic_head import StochasticHead
from nav_monitor_ros.perception.network.torch.structure import probe_structure
from nav_monitor_ros.perception.network.torch.tensors import (
    arrange_weights,
    as_rows,
    mean_over_positions,
    to_numpy,
)
from nav_monitor_ros.perception.network.torch.weight_files import write_weights
from nav_monitor_ros.perception.network.untrusted_code import stopped
from nav_monitor_ros.perception.preprocess import Preprocess

if TYPE_CHECKING:
    from nav_monitor_ros.perception.network.torch.cuda_graph import CudaGraph

Keep = Callable[[torch.Tensor], None]

_RECORDED = 8  # largest batch for which a CUDA graph is recorded: a robot's cameras
_WANTED = 3  # sets of outputs recorded at a time: the live views switch between two


class Classifier:
    """A network with its preprocessing, whose layers can be tapped.

    Logits are the output of the last linear layer, even if the network ends in a softmax or
    sigmoid, divided by its temperature. Without such a linear layer, they are recovered from the
    probabilities (``logits.logits_of``). Features are the monitored layer's output: for a layer
    with spatial extent, the mean of each channel over positions; for a sequence, the mean over its
    tokens. The penultimate layer is the head's input. Logits, head, and features on which the head
    acts are in canonical form (``canonical_form``).

    Not thread-safe: one thread runs it and sets its taps.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        *,
        layer: LayerId = PENULTIMATE,
        watch: Iterable[LayerId] = (),
        background: int | None = None,
        device: torch.device | str = 'cpu',
        threads: int = 1,
        precision: str = F32,
    ) -> None:
        """Prepare the network for running.

        Args:
            network: Network that returns (N, classes) for (N, channels, height, width).
            preprocess: Preprocessing of the network's input.
            layer: The monitored layer: ``penultimate``, a name or a 1-based number.
            watch: Layers whose channel means every forward pass yields.
            background: Index of the output for images of none of the classes, in a network trained
                with one; -1 is the last output. It is not among the classes.
            device: Device to compute on.
            threads: Number of threads of torch on the CPU, for the whole process; 0 for torch's
                default. More threads than idle cores make small networks much slower.
            precision: ``f32``, or ``tf32`` for TensorFloat-32 on a GPU.

        Raises:
            NavMonitorError: The network cannot take such images, is random or depends on the whole
                batch, the layer or the background output does not exist, or the penultimate layer
                is requested of a network without a linear head.
        """
        if threads:
            torch.set_num_threads(threads)
        self.preprocess = preprocess
        self.device = torch.device(device)
        self.engine = Engine(TORCH, precision)
        self._network = network.eval().to(self.device)
        channels = len(preprocess.mean)
        self.input_shape: tuple[int, ...] = (channels, preprocess.height, preprocess.width)
        self._layout = arrange_weights(self._network, self.input_shape, self.device)
        structure = probe_structure(self._network, self.input_shape)
        self.layers: tuple[Layer, ...] = structure.layers
        self.inputs: tuple[Layer, ...] = tuple(one.layer for one in structure.inputs)
        self._inputs = {one.layer.name: one for one in structure.inputs}
        self.background = background_output(background, structure.classes)
        require_several(structure.classes)
        # Columns of the classes, without background, among the network's outputs.
        self._columns = [i for i in range(structure.classes) if i != self.background]
        self.classes: int = len(self._columns)
        self._modules = dict(self._network.named_modules())
        self._taps: tuple[str, ...] = ()
        self._seen = PassValues()
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._watched: tuple[str, ...] = ()
        self._head_name = structure.head
        # Conversion of the network's own output, or of the head's, to logits.
        self._form = structure.form if structure.head is None else LOGITS
        self._scale = structure.scale
        self._unlike_linear = structure.unlike_linear
        self._stochastic: StochasticHead | None = None
        self._passes = 0
        # By outputs and number of images.
        self._graphs: dict[tuple, dict[int, CudaGraph | None]] = {}
        self.unit = 1.0  # factor on the features
        self.own_head: Head | None = None  # the head in the network's own form
        self._watch_head()
        self.layer = self._watch_monitored(layer)
        self.watch(watch)
        weights = next(self._network.parameters(), None)
        require_repeatable(self, rough=weights is not None and weights.dtype.itemsize < 4)
        probe = self(np.random.default_rng(0).random((4, *self.input_shape), dtype=np.float32))
        self.width: int = probe.features.shape[1]  # number of monitored neurons
        self.head: Head | None = self._head_of_monitored(probe.features)

    def __call__(self, batch: np.ndarray) -> Activations:
        """Run one forward pass.

        Args:
            batch: float32 (N, channels, height, width), as ``Preprocess.apply`` makes them.

        Returns:
            Logits, monitored features, the watched layers' channel means and the tapped maps.

        Raises:
            NavMonitorError: The network's code raised ``SystemExit`` or the like. Its other
                exceptions are propagated.
        """
        try:
            with torch.inference_mode():
                found = self._found(np.ascontiguousarray(batch, dtype=np.float32))
        except Exception:
            raise
        except BaseException as error:
            raise stopped(f'the network {type(self._network).__qualname__}', error) from error
        require_consistent(found, len(batch), self._head_name)
        logits, shift, background = class_logits(found['logits'], self._columns, self.background)
        features, samples = found['features'], found.get('samples')
        return Activations(
            logits,
            features if self.unit == 1 else features * np.float32(self.unit),
            {name: found[f'mean/{name}'] for name in self._watched},
            {name: found[f'map/{name}'] for name in self._taps},
            None if samples is None
            else class_logits(samples, self._columns, self.background)[0],
            background,
            shift,
        )

    def watch(self, layers: Iterable[LayerId]) -> None:
        """Have every forward pass yield the channel means of more layers.

        Args:
            layers: Names or 1-based numbers, or names of values that enter layers.

        Raises:
            NavMonitorError: A layer does not exist.
        """
        known = {layer.name: layer for layer in (*self.inputs, *self.layers)}
        for name in names_of(self.layers, layers, self.inputs):
            if name not in self._watched:
                self._watched += (name,)
                self._on(name, self._keep_means(known[name]))

    def sample_dropout(self, passes: int, seed: int = 0) -> None:
        """Have every forward pass yield the logits of K passes with dropout on.

        Args:
            passes: K; 0 switches it off.
            seed: Random seed for the dropout masks, which are the same for every image.

        Raises:
            NavMonitorError: The network has no dropout layer, or the layers after it cannot be
                repeated separately.
        """
        if self._stochastic is None and passes:
            probe = torch.rand(2, *self.input_shape, generator=torch.Generator().manual_seed(0))
            stochastic = StochasticHead(
                self._network, probe.to(self.device), self._head_name
            )
            self._stochastic = stochastic

            def hook(_module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
                # A later in-place layer would change it; a linear one does not.
                self._seen.before_dropout = inputs[0] if stochastic.is_linear else inputs[0].clone()

            self._modules[stochastic.first].register_forward_pre_hook(hook)
        self._passes = passes
        if self._stochastic is not None:
            self._stochastic.draw(passes, seed)
        self._graphs.clear()  # they have the old masks

    def use_threads(self, count: int, *, trying: bool = False) -> None:
        """Set the number of threads on the CPU, for all of torch in this process."""
        torch.set_num_threads(count)

    def tap(self, layers: Iterable[LayerId]) -> None:
        """Choose the layers whose maps the next forward passes keep.

        Args:
            layers: Names or 1-based numbers; an empty iterable taps none.

        Raises:
            NavMonitorError: A layer does not exist; the taps stay as they were.
        """
        names = names_of(self.layers, layers, self.inputs)
        for handle in self._handles:
            handle.remove()
        self._taps = names
        self._handles = [self._on(name, self._keep(name)) for name in names]

    def tensors(self, batch: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor | None]:
        """Run one traceable forward pass, for ``export_onnx``.

        Args:
            batch: float32 (N, channels, height, width).
            layers: Names of layers, all of which are tapped.

        Returns:
            ``logits`` (of all outputs), ``entering`` (the last linear layer), ``samples`` (of the
            passes with dropout), and the maps by layer; None for outputs that the network lacks.
        """
        self._seen.forget()
        result = self._network(batch)
        self._require_pass()
        found = {
            'logits': self._as_logits(result if self._seen.logits is None else self._seen.logits),
            'entering': self._seen.head_input,
            **{name: self._seen.maps[name] for name in layers},
        }
        # Last, since it runs tapped layers again.
        samples, sampling = None, self._sampling
        if sampling is not None:
            assert self._seen.before_dropout is not None
            samples = self._as_logits(sampling.run(self._seen.before_dropout))
        return {**found, 'samples': samples}

    @property
    def network(self) -> nn.Module:
        """Return the network itself, with the hooks of this classifier."""
        return self._network

    @property
    def columns(self) -> tuple[int, ...]:
        """Return which of the network's outputs are the classes, in their order."""
        return tuple(self._columns)

    @property
    def taps(self) -> tuple[str, ...]:
        """Return the names of the tapped layers."""
        return self._taps

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the network's weights, on the CPU."""
        return {name: t.detach().cpu() for name, t in self._network.state_dict().items()}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights and their names, hexadecimal."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the network's weights as safetensors.

        Raises:
            OSError: The file cannot be written.
        """
        write_weights(self.state_dict(), path)

    def _found(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run a pass and return the result of ``_pass`` on the CPU."""
        if self.device.type == 'cuda' and len(batch) <= _RECORDED:
            graph = self._recorded(len(batch))
            if graph is not None:
                return graph(batch)
        images = torch.from_numpy(batch).to(self.device)
        found = self._pass(images.contiguous(memory_format=self._layout))
        return {name: to_numpy(tensor) for name, tensor in found.items()}

    def _pass(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network, whose hooks record outputs; return all requested ones."""
        self._seen.forget()
        set_precision(self.device, self.engine.precision)
        result = self._network(images)
        self._require_pass()
        feature = self._seen.head_input if self._seen.feature is None else self._seen.feature
        assert feature is not None
        found = {
            'logits': self._as_logits(result if self._seen.logits is None else self._seen.logits),
            'features': feature,
            **{f'mean/{name}': self._seen.means[name] for name in self._watched},
            **{f'map/{name}': self._seen.maps[name] for name in self._taps},
        }
        if self._seen.logits is not None and result is not self._seen.head_output:
            found['result'] = result
        sampling = self._sampling
        if sampling is not None:
            assert self._seen.before_dropout is not None
            found['samples'] = self._as_logits(sampling(self._seen.before_dropout))
        return found

    @property
    def _sampling(self) -> StochasticHead | None:
        """The part that is repeated with dropout; None if no such passes are wanted."""
        return self._stochastic if self._passes else None

    def _require_pass(self) -> None:
        """Check that the hooks of all needed layers have run.

        Raises:
            NavMonitorError: One has not.
        """
        sampling = self._sampling
        self._seen.require(
            maps=self._taps, means=self._watched, head=self._head_name,
            monitored=None if self.layer == PENULTIMATE else self.layer,
            dropout=None if sampling is None else sampling.first,
        )

    def _as_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the logits from the output of the head, or of the network without one."""
        logits = torch_logits_of(outputs, self._form)
        return logits if self._scale == 1 else logits * self._scale

    def _recorded(self, images: int) -> CudaGraph | None:
        """Return the recorded pass for the requested outputs, which change seldom."""
        # Imported here since only GPUs need it.
        from nav_monitor_ros.perception.network.torch.cuda_graph import recorded

        wanted = (self._taps, self._watched)
        if wanted not in self._graphs:
            while len(self._graphs) >= _WANTED:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[wanted] = {}
        graphs = self._graphs[wanted]
        if images not in graphs:
            shape = (images, *self.input_shape)
            graphs[images] = recorded(self._pass, shape, self.device, self._layout)
        return graphs[images]

    def _on(self, name: str, keep: Keep) -> torch.utils.hooks.RemovableHandle:
        """Call a function with a layer's output, or with the value that enters it, in every pass.

        Immediately, because a later operation in place (`out += identity`) may change the value.
        """
        if name not in self._inputs or name in self._modules:
            return self._modules[name].register_forward_hook(
                lambda _module, _inputs, output: keep(output)
            )
        place = self._inputs[name]

        def hook(
            _module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
        ) -> None:
            value = first_tensor(inputs, named)
            assert value is not None  # as in the probing pass
            keep(place.taken(value))

        return self._modules[place.module].register_forward_pre_hook(hook, with_kwargs=True)

    def _keep(self, name: str) -> Keep:
        def keep(value: torch.Tensor) -> None:
            self._seen.maps[name] = value.clone()

        return keep

    def _keep_means(self, layer: Layer) -> Keep:
        def keep(value: torch.Tensor) -> None:
            self._seen.means[layer.name] = mean_over_positions(value, layer)

        return keep

    def _watch_head(self) -> None:
        if self._head_name is None:
            return

        def hook(_module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            # The row of a one-token sequence. Cloned, since later layers may work in place.
            self._seen.head_input, self._seen.logits = as_rows(inputs[0]), as_rows(output).clone()
            self._seen.head_output = output

        self._modules[self._head_name].register_forward_hook(hook)

    def _watch_monitored(self, layer: LayerId) -> str:
        if not self.layers:
            raise NavMonitorError(
                'no layer of the network can be observed, as in TorchScript; let the factory '
                'return the eager module'
            )
        if layer == PENULTIMATE:
            if self._head_name is None:
                raise NavMonitorError(
                    f'the network does not end in a linear layer{self._unlike()}, so its '
                    'penultimate layer is unknown; name the layer to monitor (--layer), one of '
                    + ', '.join(f'{known.number} {known.name}' for known in self.layers)
                )
            return PENULTIMATE
        found = find_layer(self.layers, layer, also=(PENULTIMATE,))

        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            self._seen.feature = mean_over_positions(output, found)

        self._modules[found.name].register_forward_hook(hook)
        return found.name

    def _unlike(self) -> str:
        name = self._unlike_linear
        if not name:
            return ''
        kind = type(self._modules[name]).__name__
        return f' (its layer {name}, a {kind}, computes something else than W x + b)'

    def _head_of_monitored(self, features: np.ndarray) -> Head | None:
        """Return the head if it acts on the monitored features (or on their ReLU).

        Args:
            features: float32 (N, D), the monitored features of the last pass, in the network's own
                unit; all later ones are in that of the head.
        """
        if self._head_name is None:
            return None
        entering = to_numpy(self._seen.head_input)
        if features.shape != entering.shape:
            return None
        direct = agree(features, entering)
        if not direct and not agree(np.maximum(features, 0), entering):
            return None
        linear = self._modules[self._head_name]
        weight = to_numpy(linear.weight)
        weight = weight.reshape(len(weight), -1)  # of a 1 x 1 convolution, too
        bias = np.zeros(len(weight), np.float32) if linear.bias is None else to_numpy(linear.bias)
        scale = np.float32(self._scale)
        self.own_head = Head(
            scale * weight[self._columns], scale * bias[self._columns], rectified=not direct
        )
        head, self.unit = canonical_head(self.own_head)
        return head
