"""The layers of a network in the order of execution, numbered and named."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, did_you_mean, one_line

PENULTIMATE = 'penultimate'
INPUT = ':input'  # ends the name of a value that enters a layer
LayerId = str | int  # a layer's name, or its 1-based number
WIDEST = 512  # channels above which a narrower value is preferred: a covariance has their square
DEPTHS = (0.25, 0.5, 0.75)  # where a transformer, which has no stages, is watched
LEAST_SIDE = 4  # rows and columns from which on maps are preferred for drawing
# Kinds of modules that hand on the values of a pooling layer if the shape is the same.
_HAND_ON = ('Pool', 'Dropout', 'Identity')


@dataclass(frozen=True)
class Layer:
    """One module of a network that yields a tensor for each image, or a value that enters one."""

    # 1-based, in the order in which modules finish, or take the value; 0 for values that are not
    # those of a module, such as the monitored features.
    number: int
    name: str  # as in ``network.named_modules()``; followed by ``INPUT`` for a value that enters
    kind: str  # class name of the module
    shape: tuple[int, ...]  # of the tensor for one image, without the batch axis
    channels_last: bool = False  # whether maps have their channels last, as tokens always have
    # Rows and columns of the image, of tokens that lie row by row (tokens before them, such as a
    # class token, belong to no patch) and of maps that have their channels last.
    grid: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        """Return the number of channels: maps have them first, a transformer's tokens last."""
        return self.shape[-1] if self._last else self.shape[0]

    @property
    def position_axes(self) -> tuple[int, ...]:
        """Return the axes of the positions in a batch (N, ...); none for (N, channels)."""
        axes = len(self.shape) + 1
        return tuple(range(1, axes - 1) if self._last else range(2, axes))

    @property
    def size(self) -> int:
        """Return the shorter side of the maps, or of the grid of tokens; 1 for others."""
        return min(self._sides) if len(self._sides) == 2 else 1

    @property
    def spatial(self) -> bool:
        """Return whether its values lie at several rows and columns of the image."""
        return self.size > 1 and (self.grid is not None or not self.channels_last)

    @property
    def leading(self) -> int:
        """Return the number of tokens that belong to no patch of the image."""
        return self.shape[0] - math.prod(self.grid) if self.grid and len(self.shape) == 2 else 0

    @property
    def title(self) -> str:
        """Return number, name and class for pictures and pages, since a name may be a number."""
        if not self.number:
            return f'{self.name} ({self.kind})'
        return f"layer {self.number} '{self.name}' ({self.kind})"

    @property
    def label(self) -> str:
        """Return the title for a picture of its values, see ``as_maps``."""
        count = self.leading
        without = '' if not count else ' without token 0' if count == 1 else (
            f' without tokens 0 to {count - 1}')
        return f'{self.title}{without}'

    def as_maps(self, values: np.ndarray) -> np.ndarray:
        """Return the values for one image as they lie in it.

        Args:
            values: float (*shape), as the network gives them.

        Returns:
            float (C, rows, columns) for maps, wherever their channels are, and for tokens on a
            grid, without those that belong to no patch; others unchanged.
        """
        if self.grid:
            values = values[self.leading :].reshape(*self.grid, -1)
        elif len(self.shape) < 3 or not self.channels_last:
            return values
        return np.ascontiguousarray(np.moveaxis(values, -1, 0))

    @property
    def _last(self) -> bool:
        return self.channels_last or len(self.shape) < 3

    @property
    def _sides(self) -> tuple[int, ...]:
        return self.grid or (self.shape[:-1] if self._last else self.shape[1:])


def find_layer(
    layers: Sequence[Layer], wanted: LayerId, also: Sequence[str] = ()
) -> Layer:
    """Return the layer with this name or 1-based number.

    Args:
        layers: All layers of the network.
        wanted: ``'layer4.1'``, ``'17'`` or ``17``, or a negative number counted from the end. A
            string that is a layer's name denotes that layer, even if the name is a number.
        also: Names of other values that the caller accepts, such as ``PENULTIMATE``, for the
            message.

    Raises:
        NavMonitorError: The layer does not exist; the message lists what may be named.
    """
    named = [layer for layer in layers if wanted == layer.name]
    if named:
        return named[0]
    try:
        number = 0 if isinstance(wanted, (bool, float)) else int(wanted)
    except (ValueError, TypeError):
        number = 0
    if 1 <= abs(number) <= len(layers):
        return layers[number - 1 if number > 0 else number]
    listed = ', '.join([*also, *(f"{layer.number} '{layer.name}'" for layer in layers)])
    if wanted == PENULTIMATE:
        raise NavMonitorError(
            f"'{PENULTIMATE}', the input of the last linear layer, cannot be chosen here; choose "
            f'one of {listed}'
        )
    shown = '' if wanted == '' else one_line(wanted, 80)
    near = did_you_mean(shown, [*also, *(layer.name for layer in layers)])
    raise NavMonitorError(f"the network has no layer '{shown}'; it has {listed}{near}")


def names_of(
    layers: Sequence[Layer], wanted: LayerId | Iterable[LayerId], inputs: Sequence[Layer] = ()
) -> tuple[str, ...]:
    """Return the names of the layers with these names or 1-based numbers, each once.

    Args:
        layers: All layers of the network.
        wanted: As for ``find_layer``; one name or number alone counts as a list of it.
        inputs: Values that enter layers, which may also be named.

    Raises:
        NavMonitorError: A layer does not exist.
    """
    if isinstance(wanted, (str, int)) or not isinstance(wanted, Iterable):
        wanted = (wanted,)
    entering = {layer.name for layer in inputs}
    return tuple(dict.fromkeys(
        one if one in entering else find_layer(layers, one).name for one in wanted
    ))


def last_spatial(layers: Sequence[Layer]) -> Layer:
    """Return the layer to draw if none is named, the first one of ``in_order_of_drawing``.

    Without any spatial layer it is the last layer.
    """
    return next(iter(in_order_of_drawing(layers)), layers[-1])


def in_order_of_drawing(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers whose values lie at rows and columns of the image, the best to draw first.

    Those with at least ``LEAST_SIDE`` rows and columns come first. Among these, and among the
    others, the output of a pooling layer comes last if the layer before has more positions, and
    later layers come before earlier ones.
    """
    spatial = [layer for layer in layers if layer.spatial]
    pooled = _pooled(spatial)
    spatial.reverse()
    return sorted(spatial, key=lambda layer: (layer.size < LEAST_SIDE, layer.name in pooled))


def _pooled(spatial: Sequence[Layer]) -> set[str]:
    """Return the names of layers that have the values to which a pooling layer has reduced maps."""
    names: set[str] = set()
    for before, layer in pairwise(spatial):
        fewer = math.prod(layer._sides) < math.prod(before._sides)
        if (fewer and 'Pool' in layer.kind) or (before.name in names and _same(before, layer)):
            names.add(layer.name)
    return names


def _same(before: Layer, layer: Layer) -> bool:
    """Return whether a layer hands on the values of the one before, or ends with it."""
    return layer.shape == before.shape and (
        before.name.startswith(f'{layer.name}.') or any(kind in layer.kind for kind in _HAND_ON)
    )


def early_layers(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the last layer of each spatial resolution except the last: the early stages.

    Resolutions are distinguished by powers of two, since padding changes them by a few pixels. The
    last stage is left out if there are others: the penultimate layer represents it.
    """
    stages: dict[int, str] = {}
    for layer in layers:
        if layer.spatial and 'Pad' not in layer.kind:
            stages[round(math.log2(layer.size))] = layer.name
    names = tuple(stages.values())
    return names[:-1] or names


def watched_inputs(inputs: Sequence[Layer]) -> tuple[str, ...]:
    """Return the flowing values whose channel means represent the stages of a network.

    Of each spatial resolution (in powers of two, since padding changes it by a few pixels) the last
    value; without maps, the tokens at equal fractions of the depth; without tokens, the last vector
    before the penultimate one. Values of more than ``WIDEST`` channels only if there are none with
    fewer, and then the narrowest.

    Args:
        inputs: Distinct values that enter layers with weights, in the order of execution, besides
            the image.
    """
    stages: dict[int, list[Layer]] = {}
    for layer in inputs:
        if layer.size > 1:
            stages.setdefault(round(math.log2(layer.size)), []).append(layer)
    if stages:
        return tuple(_narrow(stage)[-1].name for stage in stages.values())
    tokens = _narrow([layer for layer in inputs if len(layer.shape) == 2])
    if tokens:
        places = [round(depth * (len(tokens) - 1)) for depth in DEPTHS]
        return tuple(dict.fromkeys(tokens[place].name for place in places))
    return tuple(layer.name for layer in inputs[-2:-1] or inputs[-1:])


def _narrow(layers: Sequence[Layer]) -> Sequence[Layer]:
    """Return the layers with few channels."""
    most = max(WIDEST, min((layer.channels for layer in layers), default=0))
    return [layer for layer in layers if layer.channels <= most]


def background_output(wanted: int | None, outputs: int) -> int | None:
    """Return the 0-based index of the background output, which represents no class.

    Args:
        wanted: Its number, negative from the end; None if there is none.
        outputs: Number of outputs of the network.

    Raises:
        NavMonitorError: The output does not exist.
    """
    if wanted is None:
        return None
    if outputs < 2 or not -outputs <= wanted < outputs:
        raise NavMonitorError(
            f'the network has {outputs} outputs, so its background class cannot be number {wanted}'
        )
    return wanted % outputs
