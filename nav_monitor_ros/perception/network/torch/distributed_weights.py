"""What the weights that torchvision distributes require: preprocessing, and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nav_monitor_ros.perception.preprocess import Preprocess

_INTERPOLATIONS = {'bilinear': 'antialias', 'bicubic': 'bicubic'}  # torchvision's -> this package's
_VIT_SIZE = 224  # rows and columns for which vision transformers are built by default
# Arguments with which torchvision builds a network for its own weights, apart from the number of
# classes and the size of images, where they differ from those of a network without weights.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    'googlenet': {'transform_input': True, 'aux_logits': False},
    'inception_v3': {'transform_input': True},
}
# Those that change the function of the network but neither names nor shapes of its weights.
_UNRECORDED = ('transform_input',)


@dataclass(frozen=True)
class DistributedWeights:
    """One set of weights of a torchvision classifier."""

    name: str  # such as IMAGENET1K_V1
    preprocess: Preprocess  # of torchvision's evaluation of these weights
    arguments: Mapping[str, Any]  # of the network, where the default differs


def distributed_weights(network: str) -> tuple[DistributedWeights, ...]:
    """Return the weights that torchvision distributes for a classifier, its default ones first.

    Args:
        network: Name of the network in torchvision, such as ``resnet18``.

    Returns:
        One entry per set of weights; none if there is no such network, its preprocessing cannot be
        expressed, or torchvision cannot be imported.
    """
    try:
        from torchvision.models import get_model_weights

        known = get_model_weights(network)
        ordered = sorted(known, key=lambda weights: weights is not known.DEFAULT)
        return tuple(_described(network, weights) for weights in ordered)
    # Detectors and other networks have no such preprocessing; a torchvision that does not match
    # torch raises RuntimeError.
    except (ImportError, RuntimeError, ValueError, AttributeError, TypeError, KeyError):
        return ()


def unrecorded_arguments(network: str) -> dict[str, Any]:
    """Return the arguments of torchvision's weights that a state dict does not reveal.

    With another value, the same weights are loaded without an error, into another function.

    Args:
        network: Name of the network in torchvision.
    """
    arguments = _ARGUMENTS.get(network, {})
    return {name: arguments[name] for name in _UNRECORDED if name in arguments}


def _described(network: str, weights: Any) -> DistributedWeights:
    used = weights.transforms()
    [size], [resized] = used.crop_size, used.resize_size
    arguments = dict(_ARGUMENTS.get(network, {}))
    if network.startswith('vit_') and size != _VIT_SIZE:
        arguments['image_size'] = size
    preprocess = Preprocess(
        size, size, fit='center_crop', resize_to=resized, mean=tuple(used.mean),
        std=tuple(used.std), interpolation=_INTERPOLATIONS[used.interpolation.value],
    )
    return DistributedWeights(weights.name, preprocess, arguments)
