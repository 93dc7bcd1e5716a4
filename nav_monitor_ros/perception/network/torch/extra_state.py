"""Extra state of modules (``get_extra_state``), which weight files of tensors cannot hold.

A module may add anything to its state dict under the name ``_extra_state``. Tensors are treated
like other weights. Everything else is left out: of what is stored, and of what is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.logits import named_outputs
from nav_monitor_ros.perception.network.torch.flowing_values import nested_tensors
from nav_monitor_ros.perception.network.torch.weight_files import EXTRA_STATE
from nav_monitor_ros.perception.network.untrusted_code import foreign_code

_SHOWN = 3  # number of modules named in a message
_TOLERANCE = 1e-6  # relative to the largest output


def is_extra_state(name: str) -> bool:
    """Return whether an entry of a state dict is the extra state of a module."""
    return name.rpartition('.')[2] == EXTRA_STATE


def leave_out(network: nn.Module) -> None:
    """Make the state dict of a network consist of tensors only.

    Afterwards, ``state_dict`` leaves out extra states that are not tensors, and
    ``load_state_dict`` does not miss any.
    """
    if all(map(torch.is_tensor, network.state_dict().values())):
        return
    # Its public equivalent is missing in older versions of torch.
    network._register_state_dict_hook(_without_extra_state)
    network.register_load_state_dict_post_hook(_missing_no_extra_state)


def own_states(network: nn.Module) -> dict[str, Any]:
    """Return the extra states of a network that are not tensors, by their names in it."""
    states = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            state = module.get_extra_state()
            if not torch.is_tensor(state):
                states[f'{name}.{EXTRA_STATE}'.lstrip('.')] = state
    return states


def ignored_states(
    network: nn.Module, found: Mapping[str, Any], path: Path, shape: tuple[int, ...] | None
) -> str:
    """Return a note on the extra states that a network was not given.

    Args:
        network: Network in evaluation mode, with the weights of a file.
        found: Extra states in this file, by their names in the network.
        path: The file, for the error.
        shape: (channels, height, width) of an image, for comparing outputs; None if unknown.

    Returns:
        Text of one line, empty if there are no extra states.

    Raises:
        NavMonitorError: The outputs depend on them.
    """
    own = own_states(network)
    names = {*own, *found}
    if not names:
        return ''
    note = f'extra state is not stored in bundles and was ignored ({_listed(names)})'
    unequal = {name: state for name, state in found.items()
               if name in own and not _equal(state, own[name])}
    if unequal:
        differ = None if shape is None else _outputs_differ(network, unequal, shape)
        if differ:
            raise NavMonitorError(
                f'weights {path}: the outputs of the network depend on the extra state in this '
                f'file ({_listed(unequal)}), which cannot be stored in a bundle since it is not a '
                'tensor; build the network with it (--model-arg), or register it as a buffer'
            )
        if differ is None:
            return (f'{note}; that of {_listed(unequal)} differs from that of the network as '
                    'built: if the outputs depend on it, build the network with it (--model-arg)')
        return f'{note}; the outputs for images of noise do not depend on it'
    if own.keys() - found.keys():
        return f'{note}; the network keeps that with which it is built'
    return f'{note}; that of the network as built is the same' if own else note


def _without_extra_state(
    _network: nn.Module, state: dict[str, Any], _prefix: str, _metadata: Any
) -> None:
    for name in [name for name, value in state.items()
                 if is_extra_state(name) and not torch.is_tensor(value)]:
        del state[name]


def _missing_no_extra_state(_network: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if not is_extra_state(name)]


def _outputs_differ(
    network: nn.Module, states: Mapping[str, Any], shape: tuple[int, ...]
) -> bool | None:
    """Return whether a network with other extra states gives other outputs.

    Returns:
        None if that cannot be tried.

    Raises:
        NavMonitorError: The network's code raised ``SystemExit`` or the like.
    """
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), foreign_code('the extra state of the network'):
            changed = copy.deepcopy(network)
            for name, state in states.items():
                changed.get_submodule(name.removesuffix(EXTRA_STATE).rstrip('.')).set_extra_state(state)
            before, after = _outputs(network, images), _outputs(changed, images)
    except NavMonitorError:
        raise
    except Exception:  # raised by the network's own code
        return None
    return len(before) != len(after) or not all(map(_close, before, after))


def _outputs(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [*nested_tensors(named_outputs(network(images)).values())]


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    finite = one[torch.isfinite(one)].abs()
    allowed = _TOLERANCE * float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=allowed, equal_nan=True)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two extra states are the same; False if that cannot be told."""
    if torch.is_tensor(one) or torch.is_tensor(other):
        return (
            torch.is_tensor(one) and torch.is_tensor(other) and one.dtype == other.dtype
            and torch.equal(one, other)
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # raised by an object's own comparison
        return False


def _listed(names: Iterable[str]) -> str:
    """Return the first names, for a message."""
    ordered = sorted(names)
    more = f' and {len(ordered) - _SHOWN} more' if len(ordered) > _SHOWN else ''
    return f'{one_line(", ".join(ordered[:_SHOWN]), 300)}{more}'
