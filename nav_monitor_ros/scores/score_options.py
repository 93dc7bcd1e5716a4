"""Options of the scores: for each score one dataclass that declares types, ranges and defaults."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from nav_monitor_ros.errors import NavMonitorError, did_you_mean, short_repr

LARGEST_COUNT = 10**9  # largest integer, unless a smaller limit is declared

_Options = TypeVar('_Options')
_TYPE_NAMES = {int: 'int', float: 'float', str: 'string'}


@dataclass(frozen=True)
class NoOptions:
    """Options of a score without options."""


@dataclass(frozen=True)
class Bounds:
    """The allowed values of one option."""

    low: float | None = None  # smallest value
    high: float | None = None  # largest value
    above: float | None = None  # exclusive lower bound
    below: float | None = None  # exclusive upper bound
    choices: tuple[str, ...] = ()

    def hold(self, number: float) -> bool:
        """Return whether a number lies within the bounds."""
        return (
            (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        """Return the bounds in words; '' if there are none."""
        if self.choices:
            return f'one of {", ".join(self.choices)}'
        words = (
            (self.low, 'at least'), (self.above, 'above'), (self.high, 'at most'),
            (self.below, 'below'),
        )
        return ' and '.join(f'{word} {bound:g}' for bound, word in words if bound is not None)


def option(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare one option; the field's annotation is its type.

    The types are ``int``, ``float``, ``str`` (with ``choices``) and ``tuple[str, ...]``.

    Args:
        default: Default value.
        description: One sentence for the help and the documentation.
        low: Smallest value.
        high: Largest value.
        above: Exclusive lower bound.
        below: Exclusive upper bound.
        choices: Allowed values of a string.
    """
    bounds = Bounds(low, high, above, below, choices)
    return field(default=default, metadata={'bounds': bounds, 'description': description})


@dataclass(frozen=True)
class OptionDescription:
    """Description of one option, for documentation."""

    name: str
    type: str  # int, float, string or list of names
    default: Any  # a plain YAML value
    range: str  # the allowed values in words; '' if every value of the type is allowed
    description: str  # one sentence


def describe(options_type: type) -> list[OptionDescription]:
    """Return the descriptions of all options of a score, in order."""
    hints = get_type_hints(options_type)
    defaults = plain(options_type())
    return [
        OptionDescription(
            f.name, _TYPE_NAMES.get(hints[f.name], 'list of names'), defaults[f.name],
            str(f.metadata['bounds']), f.metadata['description'],
        )
        for f in fields(options_type)
    ]


def checked(score: str, options_type: type[_Options], given: Mapping[str, Any]) -> _Options:
    """Return a score's options in their declared types.

    Args:
        score: Name of the score, for messages.
        options_type: Dataclass with fields created by ``option``.
        given: Values other than the defaults, by name.

    Raises:
        NavMonitorError: An option does not exist, or a value has another type or is out of range.
    """
    hints = get_type_hints(options_type)
    known = {f.name: f.metadata['bounds'] for f in fields(options_type)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise NavMonitorError(f"score '{score}' has no option '{name}'{_known(name, known)}")
    values = {
        name: _typed(f'{score}: option {name}', hints[name], known[name], value)
        for name, value in given.items()
    }
    return options_type(**values)


def plain(options: Any) -> dict[str, Any]:
    """Return options as plain YAML values."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(options).items()
    }


def _known(name: str, known: Mapping[str, Bounds]) -> str:
    if not known:
        return '; it has none'
    return did_you_mean(str(name), known) or f'; its options are {", ".join(known)}'


def _typed(what: str, wanted: Any, bounds: Bounds, value: Any) -> Any:
    if wanted is str:
        if isinstance(value, str) and value in bounds.choices:
            return value
        raise NavMonitorError(f'{what} is {short_repr(value)}; it must be {bounds}')
    if wanted in (int, float):
        return _number(what, wanted, bounds, value)
    return _names(what, value)


def _number(what: str, wanted: type, bounds: Bounds, value: Any) -> int | float:
    kind = numbers.Integral if wanted is int else numbers.Real
    if isinstance(value, kind) and not isinstance(value, bool):
        # Numpy's numbers become Python's, which compare without overflow.
        number: Any = value if isinstance(value, (int, float)) else wanted(value)
        # NaN, which compares false with everything, is refused, and so is infinity.
        if abs(number) <= (LARGEST_COUNT if wanted is int else sys.float_info.max):
            if bounds.hold(number):
                return wanted(number)
    name = 'a whole number' if wanted is int else 'a finite number'
    wanted_text = ', '.join(filter(None, (name, str(bounds))))
    raise NavMonitorError(f'{what} is {short_repr(value)}; it must be {wanted_text}')


def _names(what: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if all(isinstance(name, str) and name for name in value):
            twice = next((name for name in value if value.count(name) > 1), None)
            if twice is not None:
                raise NavMonitorError(f"{what} names '{twice}' twice")
            return tuple(value)
    remedy = f', such as [{value}]' if isinstance(value, str) and value else ''
    raise NavMonitorError(f'{what} is {short_repr(value)}; it must be a list of names{remedy}')
