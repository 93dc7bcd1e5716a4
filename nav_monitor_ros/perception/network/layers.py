"""The layers of a network in the order of execution, numbered and named."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nav_monitor_ros.errors import NavMonitorError, did_you_mean, one_line

PENULTIMATE = 'penultimate'
LayerId = str | int  # a layer's name, or its 1-based number


@dataclass(frozen=True)
class Layer:
    """One module of a network that yields a tensor for each image."""

    number: int  # 1-based, in the order in which modules finish
    name: str  # as in ``network.named_modules()``
    kind: str  # class name of the module
    shape: tuple[int, ...]  # of the output for one image, without the batch axis

    @property
    def channels(self) -> int:
        """Return the number of channels: maps have them first, a transformer's tokens last."""
        return self.shape[0] if len(self.shape) > 2 else self.shape[-1]


def find_layer(layers: Sequence[Layer], wanted: LayerId) -> Layer:
    """Return the layer with this name or 1-based number.

    Args:
        layers: All layers of the network.
        wanted: ``'layer4.1'``, ``'17'`` or ``17``, or a negative number counted from the end. A
            string that is a layer's name denotes that layer, even if the name is a number.

    Raises:
        NavMonitorError: The layer does not exist; the message lists those that do.
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
    listed = ', '.join(f"{layer.number} '{layer.name}'" for layer in layers)
    shown = one_line(wanted, 80)
    near = did_you_mean(shown, [PENULTIMATE, *(layer.name for layer in layers)])
    raise NavMonitorError(
        f"the network has no layer '{shown}'; it has {PENULTIMATE}, {listed}{near}"
    )


def names_of(layers: Sequence[Layer], wanted: LayerId | Iterable[LayerId]) -> tuple[str, ...]:
    """Return the names of the layers with these names or 1-based numbers, each once.

    Args:
        layers: All layers of the network.
        wanted: As for ``find_layer``; one name or number alone counts as a list of it.

    Raises:
        NavMonitorError: A layer does not exist.
    """
    if isinstance(wanted, (str, int)) or not isinstance(wanted, Iterable):
        wanted = (wanted,)
    return tuple(dict.fromkeys(find_layer(layers, one).name for one in wanted))


def early_layers(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the last layer of each spatial resolution except the last: the early stages.

    Resolutions are distinguished by powers of two, since padding changes them by a few pixels. The
    last stage is left out if there are others: the penultimate layer represents it.
    """
    stages: dict[int, str] = {}
    for layer in layers:
        if len(layer.shape) == 3 and min(layer.shape[1:]) > 1 and 'Pad' not in layer.kind:
            stages[round(math.log2(min(layer.shape[1:])))] = layer.name
    names = tuple(stages.values())
    return names[:-1] or names


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
