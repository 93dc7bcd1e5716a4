"""Gradients of a network's logits, with respect to its input and to its filters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.layers import Layer, find_layer
from nav_monitor_ros.perception.network.logits import LOGITS, SelectedOutput, torch_logits_of
from nav_monitor_ros.perception.network.torch.structure import probe_structure

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OWN_PACKAGE = __name__.partition('.')[0]
_MOST_IMAGES = 64  # images per batch
_MOST_VALUES = 1_200_000  # input values per batch, since the layers need memory for each


class Differentiable:
    """A copy of a network in evaluation mode that gradients can be taken of.

    The original network, its weights and its hooks are unchanged, and no tensor from torch's
    inference mode is used. Logits are those of ``Classifier``, also if a softmax follows them,
    without a background class.

    Not thread-safe.
    """

    def __init__(
        self,
        network: nn.Module,
        input_shape: Sequence[int],
        *,
        columns: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Copy the network.

        Args:
            network: Returns (N, outputs) for (N, channels, height, width), on any device.
            input_shape: (channels, height, width) of one preprocessed image.
            columns: Outputs of the classes, in their order; by default all.
            dtype: Data type of the computation, ``torch.float32`` or ``torch.float64``.

        Raises:
            NavMonitorError: It is not a torch network, cannot be copied, or cannot take such
                images.
        """
        with torch.inference_mode(False):
            structure = probe_structure(trainable_copy(network).eval(), input_shape)
            # Copied again, since that copy may keep tensors computed in inference mode.
            self.network = trainable_copy(network).eval().to(dtype).requires_grad_(False)
        self.input_shape = tuple(input_shape)
        self.dtype = dtype
        self.device = next((p.device for p in self.network.parameters()), torch.device('cpu'))
        self.columns = tuple(range(structure.classes) if columns is None else columns)
        self.classes = len(self.columns)
        self.layers: tuple[Layer, ...] = structure.layers
        self._modules = dict(self.network.named_modules())
        self._head_output: torch.Tensor | None = None
        self._form = structure.form if structure.head is None else LOGITS
        self._scale = structure.scale
        for module in self._modules.values():
            if not any(True for _ in module.children()):
                module.register_forward_hook(_protected)
        if structure.head is not None:
            self._modules[structure.head].register_forward_hook(self._keep_head_output)

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """Return the layers that are convolutions, in the order of execution."""
        return tuple(
            layer for layer in self.layers if isinstance(self._modules[layer.name], _CONVOLUTIONS)
        )

    def convolution(self, wanted: str = '') -> Layer:
        """Return a convolution by name or number; by default the last one with spatial extent.

        Raises:
            NavMonitorError: The layer does not exist or is not a convolution.
        """
        found = self.convolutions
        if not found:
            raise NavMonitorError('the network has no convolution, so there are no filters')
        if not wanted:
            return next((layer for layer in reversed(found) if max(layer.shape[1:]) > 1), found[-1])
        layer = find_layer(self.layers, wanted)
        if layer not in found:
            listed = ', '.join(f"{known.number} '{known.name}'" for known in found)
            raise NavMonitorError(f'{layer.title} is not a convolution; there are {listed}')
        return layer

    def module(self, layer: str) -> nn.Module:
        """Return the copy's module with a layer's name."""
        return self._modules[layer]

    def tensor(self, images: np.ndarray) -> torch.Tensor:
        """Return images (N, channels, height, width) as this network takes them."""
        with torch.inference_mode(False):
            return torch.from_numpy(np.array(images)).to(self.device, self.dtype)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Args:
            images: (N, channels, height, width), with this network's data type and on its device.

        Returns:
            (N, classes), with the autograd graph.
        """
        self._head_output = None
        output = self.network(images)
        if self._head_output is not None:
            output, self._head_output = self._head_output, None
        output = torch_logits_of(output, self._form)
        if self._scale != 1:
            output = output * self._scale
        return output[:, list(self.columns)]

    def predict(
        self, images: np.ndarray, layer: str = '', zeroed: Sequence[int] = ()
    ) -> np.ndarray:
        """Return the logits of images, optionally without some filters.

        Args:
            images: (N, channels, height, width).
            layer: Name of a convolution.
            zeroed: Indices of its filters whose weights and bias are set to 0.

        Returns:
            (N, classes).
        """
        without = torch.as_tensor(list(zeroed), dtype=torch.long, device=self.device)

        def zero(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            return output.index_fill(1, without, 0.0)

        with torch.inference_mode(False), torch.no_grad(), self._hooked(layer, zero):
            return _joined(self.logits(self.tensor(images[rows])) for rows in _batches(images))

    def input_gradient(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Differentiate the logit of a class with respect to the input.

        Args:
            images: (N, channels, height, width).
            targets: int (N,), a class for each image.

        Returns:
            Array of the images' shape; 0 where the logit does not depend on a value.

        Raises:
            NavMonitorError: A class does not exist, or the network cannot be differentiated.
        """
        parts = []
        with differentiating():
            for rows in _batches(images):
                entering = self.tensor(images[rows]).requires_grad_()
                parts += self._gradients(self.logits(entering), targets[rows], [entering])
        return _joined(parts)

    def weight_gradient(self, image: np.ndarray, target: int, layer: str) -> np.ndarray:
        """Differentiate the logit of a class with respect to a convolution's filters.

        Args:
            image: (channels, height, width).
            target: The class.
            layer: Name or number of the convolution.

        Returns:
            (filters, input channels of a group, *kernel).

        Raises:
            NavMonitorError: The layer is not a convolution, the class does not exist, or the
                network cannot be differentiated.
        """
        with differentiating(), self._tracked(self.convolution(layer).name) as weight:
            logits = self.logits(self.tensor(image[None]))
            return _joined(self._gradients(logits, np.array([target]), [weight]))

    def filter_importance(self, images: np.ndarray, targets: np.ndarray, layer: str) -> np.ndarray:
        """Estimate the contribution of each filter to the logit of a class, to first order.

        At each position where it is applied, a filter adds the sum of gradient x value over its
        weights and its bias to the logit, as far as the network is linear there. Their absolute
        values are added over the positions. (Molchanov et al., Importance Estimation for Neural
        Network Pruning, CVPR 2019, square the sum over all positions, where much cancels out; on
        the shipped networks that ranks filters worse.) Since a convolution is linear in its
        filters, the sum at a position is gradient x output, which one backward pass gives for many
        images.

        Args:
            images: (N, channels, height, width).
            targets: int (N,), a class for each image.
            layer: Name or number of the convolution.

        Returns:
            (N, filters), non-negative.

        Raises:
            NavMonitorError: As for ``weight_gradient``.
        """
        name = self.convolution(layer).name
        outputs: list[torch.Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            outputs.append(output)
            return output.clone()  # later layers may work in place

        parts = []
        with differentiating(), self._tracked(name), self._hooked(name, keep):
            for rows in _batches(images):
                outputs.clear()
                logits = self.logits(self.tensor(images[rows]))
                # A convolution that runs several times contributes each time.
                gradients = self._gradients(logits, targets[rows], outputs)
                owed = [
                    (gradient * output.detach()).flatten(2).abs().sum(2)
                    for gradient, output in zip(gradients, outputs, strict=True)
                ]
                parts.append(torch.stack(owed).sum(0))
        return _joined(parts)

    def _gradients(
        self, logits: torch.Tensor, targets: np.ndarray, of: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Differentiate each image's logit of its class in one batch."""
        wanted = np.asarray(targets)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.classes:
            raise NavMonitorError(
                f'there is no class {wanted.max()}; the network has {self.classes}, from 0'
            )
        columns = torch.from_numpy(wanted.astype(np.int64)).to(self.device)
        chosen = logits.gather(1, columns[:, None]).sum()
        gradients = torch.autograd.grad(chosen, of, allow_unused=True)
        return [
            torch.zeros_like(tensor) if gradient is None else gradient
            for tensor, gradient in zip(of, gradients, strict=True)
        ]

    @contextmanager
    def _tracked(self, layer: str) -> Iterator[torch.Tensor]:
        """Include a convolution's weights in the graph, even if they are computed from others."""
        module = self._modules[layer].requires_grad_(True)
        try:
            with parametrize.cached():
                weight = module.weight
                assert isinstance(weight, torch.Tensor)
                yield weight
        finally:
            module.requires_grad_(False)

    @contextmanager
    def _hooked(self, layer: str, hook: Callable[..., torch.Tensor]) -> Iterator[None]:
        handle = self._modules[layer].register_forward_hook(hook) if layer else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()

    def _keep_head_output(
        self, _module: nn.Module, _inputs: object, output: torch.Tensor
    ) -> None:
        # Cloned, since later layers may work in place.
        self._head_output = output.flatten(1).clone()


def trainable_copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network that shares nothing with it and whose weights can be trained.

    This package's hooks on the network are not copied, and in-place layers are made out-of-place.

    Raises:
        NavMonitorError: It is not a torch network, or cannot be copied.
    """
    if not isinstance(network, nn.Module):
        raise NavMonitorError(
            f'gradients need the network in torch, and this one is a {type(network).__name__}; '
            'give torchvision:NAME or package.module:factory with its weights'
        )
    try:
        with torch.inference_mode(False):
            copied = copy.deepcopy(network)
    except Exception as error:  # a network may contain any object
        raise NavMonitorError(
            f'the network cannot be copied, as gradients require: {one_line(error)}'
        ) from error
    for module in copied.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            own = [
                key for key, hook in hooks.items()
                if str(getattr(hook, '__module__', '')).partition('.')[0] == _OWN_PACKAGE
                and not isinstance(hook, SelectedOutput)  # which is part of its computation
            ]
            for key in own:
                del hooks[key]
        if isinstance(getattr(module, 'inplace', None), bool):
            setattr(module, 'inplace', False)  # noqa: B010 - no module is known to have it
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return copied


@contextmanager
def differentiating() -> Iterator[None]:
    """Record the computation, and explain in one line if it cannot be differentiated."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise NavMonitorError(
            f'the network cannot be differentiated: {one_line(error)}'
        ) from error


def _protected(_module: nn.Module, _inputs: object, output: object) -> object:
    """Return a layer's output in a form on which the network may work in place afterwards."""
    return output.clone() if torch.is_tensor(output) else output


def _batches(images: np.ndarray) -> Iterator[slice]:
    """Yield the rows of images that fit into memory together."""
    values = int(np.prod(images.shape[1:]))
    size = max(1, min(_MOST_IMAGES, _MOST_VALUES // max(1, values)))
    for start in range(0, len(images), size):
        yield slice(start, start + size)


def _joined(parts: Iterable[torch.Tensor]) -> np.ndarray:
    return np.concatenate([part.detach().cpu().numpy() for part in parts])
