"""Weights from a file, with any wrapping by training code, matched to a network's names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.torch.extra_state import (
    ignored_states,
    is_extra_state,
    leave_out,
    own_states,
)
from nav_monitor_ros.perception.network.torch.weight_files import SAVE, State, read_weights

# Names that training scripts use for the network, in a checkpoint or as an attribute. If a file
# holds the network twice, as a checkpoint with averaged weights does, such a name decides.
_USUAL = {'state_dict', 'model_state_dict', 'model', 'net', 'network', 'module', '_orig_mod'}
# Inserted into a network's names by torch.compile, DataParallel, FSDP and DeepSpeed.
_WRAPPERS = {'_orig_mod', 'module', '_fsdp_wrapped_module', '_forward_module'}
_DEEPEST = 4  # largest nesting depth of dictionaries
_ANCHORS = 8  # number of the network's names for finding prefixes
_COUNTER = 'num_batches_tracked'  # of batch norm; older files lack it, and only training uses it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Match:
    """One way to read a network's weights from a file."""

    place: tuple[str, ...]  # keys of the enclosing dictionaries
    prefix: str  # prefix of their names
    state: State  # by the file's names
    names: Mapping[str, str]  # the network's name -> the file's name
    missing: tuple[str, ...]  # of the network
    unexpected: tuple[str, ...]  # of the file, with the prefix
    besides: tuple[str, ...]  # of the file, without the prefix

    @property
    def complete(self) -> bool:
        """Return whether all names agree."""
        return not self.missing and not self.unexpected

    @property
    def usual(self) -> bool:
        """Return whether it is where training scripts store the network itself."""
        return {*self.place, *self.prefix.rstrip('.').split('.')} <= {'', *_USUAL}

    def __str__(self) -> str:
        """Return its location in the file."""
        return '.'.join((*self.place, self.prefix.rstrip('.'))).strip('.') or 'the top level'


def load_weights(
    network: nn.Module, path: Path, shape: tuple[int, ...] | None = None
) -> None:
    """Load a state dict into a network; see ``specification.load_weights``."""
    read = read_weights(path)
    leave_out(network)
    own = network.state_dict()
    match = _matched(read, own, path)
    state = {name: match.state[key] for name, key in match.names.items()}
    _check_values(state, own, path)
    _load(network, state)
    note = ignored_states(network, _extra_states(read, match, network), path, shape)
    if note:
        _log.warning('weights %s: %s', path, note)


def load_exactly(network: nn.Module, state: State, path: Path) -> None:
    """Load a state dict whose names and shapes are the network's own.

    Raises:
        NavMonitorError: They are not.
    """
    leave_out(network)
    own = network.state_dict()
    state = {name: tensor for name, tensor in state.items()
             if name in own or not is_extra_state(name)}
    missing, unexpected = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or unexpected:
        raise _misfit(path, missing, unexpected)
    _check_values(state, own, path)
    _load(network, state)


def _load(network: nn.Module, state: State) -> None:
    """Load tensors; the network keeps its own where there is none."""
    # Its own state dict, since that states the versions of its modules; MNASNet requires them.
    complete = network.state_dict()
    complete.update(state)
    network.load_state_dict(complete)


def _extra_states(read: Any, match: _Match, network: nn.Module) -> dict[str, Any]:
    """Return the extra states in the contents of a file, by their names in the network."""
    for key in match.place:
        read = read[key]
    own = {_without_wrappers(name): name for name in own_states(network)}
    prefix, taken = _without_wrappers(match.prefix), {*match.names.values()}
    found = {}
    for key, value in read.items():
        if isinstance(key, str) and is_extra_state(key) and key not in taken:
            plain = _without_wrappers(key)
            if plain.startswith(prefix):
                name = plain.removeprefix(prefix)
                found[own.get(name, name)] = value
    return found


def _matched(read: object, own: State, path: Path) -> _Match:
    """Return the location of a network's weights in a file, and log what is left out.

    Raises:
        NavMonitorError: None fit exactly, or several differ.
    """
    states = list(_states(read))
    if not states:
        raise NavMonitorError(f'weights {path} hold no state dict; {SAVE}')
    matches = [match for place, state in states for match in _matches(place, state, own)]
    complete = [match for match in matches if match.complete]
    if not complete:
        nearest = max(matches, key=lambda match: len(match.names) - len(match.unexpected))
        raise _misfit(path, nearest.missing, nearest.unexpected)
    chosen = complete[0]
    others = [match for match in complete[1:] if not _equal(chosen, match)]
    if others:
        usual = [match for match in (chosen, *others) if match.usual]
        if len(usual) != 1:
            listed = ', '.join(str(match) for match in (chosen, *others))
            raise NavMonitorError(
                f'weights {path} hold this network several times with different values '
                f'({one_line(listed, 300)}); save only the state_dict of the one to use'
            )
        (chosen,) = usual
        others = [match for match in complete if not _equal(chosen, match)]
    for note in _notes(chosen, others, own):
        _log.warning('weights %s: %s', path, note)
    return chosen


def _states(read: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """Yield every dictionary of tensors in the contents of a file, with the keys leading to it."""
    if not isinstance(read, Mapping) or len(place) > _DEEPEST:
        return
    named = {name: value for name, value in read.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if torch.is_tensor(value)}
    if tensors:
        yield place, tensors
    for name, value in named.items():
        yield from _states(value, (*place, name))


def _matches(place: tuple[str, ...], state: State, own: State) -> Iterator[_Match]:
    """Yield the ways to read a network's weights from one dictionary of tensors."""
    plain = {name: name for name in own}
    yield from _under_prefixes(place, state, plain, {key: key for key in state})
    # Wrappers inside names: of a single compiled block, or of the network itself.
    mine, theirs = _unwrapped(own), _unwrapped(state)
    if mine is not None and theirs is not None and (mine, theirs) != (plain, {k: k for k in state}):
        yield from _under_prefixes(place, state, mine, theirs)


def _under_prefixes(
    place: tuple[str, ...], state: State, own: Mapping[str, str], keys: Mapping[str, str]
) -> Iterator[_Match]:
    """Yield a match for each possible prefix of the network.

    Args:
        place: Position of the dictionary.
        state: The dictionary.
        own: Names to look for -> the network's names.
        keys: Normalised names in the dictionary -> its own names.
    """
    required = [name for name in own if not _optional(name)]
    some = required[:: max(1, len(required) // _ANCHORS)]
    found = {key[: -len(name)] for name in some for key in keys if f'.{key}'.endswith(f'.{name}')}
    for prefix in sorted(found | {''}, key=lambda found: (len(found), found)):
        under = {key[len(prefix):]: keys[key] for key in keys if key.startswith(prefix)}
        yield _Match(
            place, prefix, state,
            {own[name]: under[name] for name in own if name in under},
            tuple(sorted(
                own[name] for name in own if name not in under and not _optional(name)
            )),
            tuple(sorted(
                under[name] for name in under if name not in own and not is_extra_state(name)
            )),
            tuple(sorted(keys[key] for key in keys if not key.startswith(prefix))),
        )


def _optional(name: str) -> bool:
    return name.rpartition('.')[2] == _COUNTER


def _unwrapped(state: State) -> dict[str, str] | None:
    """Return names without wrappers -> names; None if two would be the same."""
    names = {_without_wrappers(name): name for name in state}
    return names if len(names) == len(state) else None


def _without_wrappers(name: str) -> str:
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def _equal(one: _Match, other: _Match) -> bool:
    """Return whether two matches have the same values."""
    return all(
        not _form(one.state[key]) and not _form(other.state[other.names[name]])
        and one.state[key].shape == other.state[other.names[name]].shape
        and torch.equal(one.state[key], other.state[other.names[name]])
        for name, key in one.names.items() if name in other.names
    )


def _notes(chosen: _Match, others: list[_Match], own: State) -> list[str]:
    """Return notes on how the weights were read."""
    notes = []
    if chosen.prefix:
        notes.append(f"the prefix '{one_line(chosen.prefix, 300)}' of the names was stripped")
    elif any(name != key for name, key in chosen.names.items()):
        inner = sorted({part for key in chosen.names.values() for part in key.split('.')}
                       & _WRAPPERS)
        notes.append(f'{", ".join(inner) or "wrappers"} in the names was ignored')
    if chosen.besides:
        notes.append(f'{_some("left out, not part of the network:", chosen.besides)}'[:-2])
    counters = [name for name in own if name not in chosen.names]
    if counters:
        notes.append(
            f'the {len(counters)} batch-norm counters {_COUNTER} are missing; they are only for '
            'training'
        )
    if others:
        listed = ', '.join(str(match) for match in others)
        notes.append(f'those at {chosen} were used; others are at {one_line(listed, 300)}')
    return notes


def _form(tensor: torch.Tensor) -> str:
    """Return why a tensor is not a plain array of numbers; '' if it is."""
    if tensor.is_meta:
        return 'has no values (its device is meta)'
    if tensor.layout is not torch.strided:
        return f'is sparse ({str(tensor.layout).removeprefix("torch.")})'
    return 'holds complex numbers' if tensor.is_complex() else ''


def _check_values(state: State, own: State, path: Path) -> None:
    for name, tensor in state.items():
        form = _form(tensor)
        if form:
            raise NavMonitorError(
                f'weights {path} cannot be used: {one_line(name)} {form}; save plain tensors of '
                'real numbers'
            )
        if is_lazy(own[name]):  # it takes its shape from the file
            if not torch.isfinite(tensor).all():
                raise NavMonitorError(
                    f'weights {path} cannot be used: {one_line(name)} holds values that are not '
                    'finite; use an earlier checkpoint'
                )
            continue
        if own[name].shape != tensor.shape:
            raise NavMonitorError(
                f'weights {path} do not fit the network: {one_line(name)} is '
                f'{tuple(tensor.shape)} in the file and {tuple(own[name].shape)} in the network; '
                'check the number of classes and the other arguments'
            )
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise NavMonitorError(
                f'weights {path} do not fit the network: {one_line(name)} holds '
                f'{str(tensor.dtype).removeprefix("torch.")}, and the network '
                f'{str(own[name].dtype).removeprefix("torch.")}; give weights that are not '
                'quantised'
            )
        if own[name].is_floating_point():
            value = tensor.to(own[name].dtype)  # finite float64 values may be infinite in float32
            # Attention masks contain infinity in a newly built network.
            strange = ~torch.isfinite(value) & (value != own[name].to(value.device))
            if strange.any():
                raise NavMonitorError(
                    f'weights {path} cannot be used: {one_line(name)} holds {int(strange.sum())} '
                    f'values that are not finite in '
                    f'{str(value.dtype).removeprefix("torch.")}; use an earlier checkpoint'
                )


def _misfit(
    path: Path, missing: list[str] | tuple[str, ...], unexpected: list[str] | tuple[str, ...]
) -> NavMonitorError:
    return NavMonitorError(
        f'weights {path} do not fit the network: '
        f'{_some("missing", missing)}{_some("unexpected", unexpected)}'
        'give the weights of exactly this architecture (and its arguments)'
    )


def _some(word: str, names: list[str] | tuple[str, ...]) -> str:
    if not names:
        return ''
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{word} {one_line(", ".join(names[:3]), 300)}{more}; '
