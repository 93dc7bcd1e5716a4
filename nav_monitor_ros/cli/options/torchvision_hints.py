"""Hints on the options that the weights distributed by torchvision need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

_ORIGIN = 'torchvision:'  # start of the specification of such a network
_LIKELY_DEFAULT = ('mean', 'std', 'interpolation')  # fields that are the same for most weights


def needed_options(model: str | None) -> str:
    """Return a suffix that states the options for the weights that torchvision distributes.

    Args:
        model: Specification of a network.

    Returns:
        A clause with the options that differ from the defaults, starting with a semicolon; empty
        if torchvision distributes none for this network.
    """
    name = _name(model)
    if not name:
        return ''
    from nav_monitor_ros.perception.network.torch.distributed_weights import distributed_weights

    names: dict[str, list[str]] = {}
    for weights in distributed_weights(name):
        options = ' '.join((
            f'--size {weights.preprocess.height}x{weights.preprocess.width}',
            f'--fit {weights.preprocess.fit}',
            f'--resize-to {weights.preprocess.resize_to}',
            *_unlike_defaults([weights.preprocess]),
            *map(_model_argument, weights.arguments.items()),
        ))
        names.setdefault(options, []).append(weights.name)
    if not names:
        return ''
    listed = ' or '.join(
        f'{options} ({", ".join(named)})' if len(names) > 1 else options
        for options, named in names.items()
    )
    return f'; the weights that torchvision distributes for {name} take {listed}'


def notes(
    model: str | None, arguments: Iterable[str], preprocess: Any, given: Collection[str]
) -> list[str]:
    """Return notes on options that weights derived from those of torchvision would need.

    Args:
        model: Specification of the network.
        arguments: Names of the arguments of the network that are given.
        preprocess: Preprocessing that was chosen.
        given: Names of its fields that were given; the others have their default values.

    Returns:
        Texts of one line, none if nothing differs.
    """
    name = _name(model)
    if not name:
        return []
    from nav_monitor_ros.perception.network.torch.distributed_weights import (
        distributed_weights,
        unrecorded_arguments,
    )

    found = []
    unrecorded = unrecorded_arguments(name)
    for argument in unrecorded.keys() - {*arguments}:
        found.append(
            f'the weights that torchvision distributes for {name} take '
            f'{_model_argument((argument, unrecorded[argument]))}, which changes the results and '
            'is not recorded in weight files; give it if your weights were derived from those, '
            f'otherwise {_model_argument((argument, not unrecorded[argument]))}'
        )
    known = [weights.preprocess for weights in distributed_weights(name)]
    same_size = [one for one in known if (one.height, one.width) == (
        preprocess.height, preprocess.width)]
    lacking = _unlike_defaults(same_size or known, given)
    if lacking:
        found.append(
            f'the weights that torchvision distributes for {name} take {" ".join(lacking)}; give '
            'these options if your weights were derived from those, otherwise give those of your '
            'training'
        )
    return found


def _name(model: str | None) -> str:
    """Return the name of a network of torchvision, empty for other networks."""
    return model.removeprefix(_ORIGIN) if model and model.startswith(_ORIGIN) else ''


def _unlike_defaults(known: Sequence[Any], given: Collection[str] = ()) -> list[str]:
    """Return options for fields whose default value none of the known preprocessings has.

    Args:
        known: Preprocessings; the options have the values of the first.
        given: Names of fields to leave out.
    """
    options = []
    for field in fields(known[0]) if known else ():
        if field.name not in _LIKELY_DEFAULT or field.name in given:
            continue
        values = [getattr(one, field.name) for one in known]
        if field.default not in values:
            value = values[0]
            text = value if isinstance(value, str) else ','.join(f'{part:g}' for part in value)
            options.append(f'--{field.name} {text}')
    return options


def _model_argument(argument: tuple[str, Any]) -> str:
    name, value = argument
    return f'--model-arg {name}={str(value).lower()}'
