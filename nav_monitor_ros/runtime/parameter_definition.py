"""Table of ROS parameters from which they are declared, checked and documented."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nav_monitor_ros.errors import NavMonitorError, short_repr

LONGEST_NAME = 64  # characters of a given name that a message repeats


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter."""

    name: str
    type: str  # bool, int, float, string, int[] or string[]
    default: Any
    description: str
    low: float | None = None  # smallest value allowed
    high: float | None = None  # largest value allowed
    choices: tuple[str, ...] = ()
    read_only: bool = False  # can be set at start only
    at_configure: bool = False  # read in the configure transition; changes are refused afterwards
    unit: str = ''
    numbers_too: bool = False  # whether a string may be given as an integer
    per_camera: bool = False  # whether each of several cameras can override the value

    @property
    def text(self) -> str:
        """Description, with a note if the parameter is read only at configuration."""
        read = ' Read in the configure transition.' if self.at_configure else ''
        return f'{self.description}{read}'

    @property
    def range(self) -> str:
        """Allowed values as text."""
        if self.choices:
            return ', '.join(f'`{choice}`' for choice in self.choices)
        if self.low is None and self.high is None:
            return ''
        if self.high is None:
            return f'>= {self.low:g}'
        return f'{self.low:g} to {self.high:g}'

    def check(self, value: Any) -> Any:
        """Convert a value to this parameter's type; an empty list stands for the default.

        Raises:
            NavMonitorError: The value has another type or is out of range.
        """
        converted = self._convert(value)
        if self.choices and converted not in self.choices:
            raise NavMonitorError(
                f'parameter {self.name} is {short_repr(converted)}; it must be one of '
                f'{", ".join(self.choices)}'
            )
        numbers = converted if isinstance(converted, list) else [converted]
        for number in numbers:
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                self._check_range(number)
        return converted

    def _check_range(self, number: float) -> None:
        # Written so that NaN, for which every comparison is false, is refused, too.
        above = self.low is None or number >= self.low
        below = self.high is None or number <= self.high
        if not (above and below and abs(number) < float('inf')):
            raise NavMonitorError(f'parameter {self.name} is {number}; it must be {self.range}')

    def _convert(self, value: Any) -> Any:
        kind = self.type
        if kind.endswith('[]') and isinstance(value, Sequence) and not isinstance(value, str):
            values = list(value) or list(self.default)
            wanted = str if kind == 'string[]' else int
            if all(isinstance(v, wanted) and not isinstance(v, bool) for v in values):
                return values
        if kind == 'bool' and isinstance(value, bool):
            return value
        if kind == 'string' and isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.numbers_too and isinstance(value, int):
                return str(value)
            if kind == 'float':
                return float(value)  # integers in YAML are accepted, too
            if kind == 'int' and isinstance(value, int):
                return value
        example = ''
        if kind == 'string[]':
            is_name = isinstance(value, str) and value.isidentifier() and len(value) <= LONGEST_NAME
            given = value if is_name else 'NAME'
            example = f""", such as "['{given}']\""""
        raise NavMonitorError(
            f'parameter {self.name} is {_described(value)}; it must be of type {kind}{example}'
        )


def markdown_table(table: Sequence[Parameter]) -> str:
    """Return the parameters as a Markdown table."""
    lines = ['| parameter | type | default | range | description |', '|---|---|---|---|---|']
    for p in table:
        unit = f' {p.unit}' if p.unit else ''
        fixed = (' *Per camera.*' if p.per_camera else '') + (
            ' *Read-only.*' if p.read_only else ''
        )
        lines.append(
            f'| `{p.name}` | {p.type} | `{_yaml_value(p.default)}`{unit} | {p.range} '
            f'| {p.text}{fixed} |'
        )
    return '\n'.join(lines)


def yaml_file(
    table: Sequence[Parameter], node: str, module: str
) -> str:
    """Return a complete, commented parameter file with all defaults.

    Args:
        table: Parameters.
        node: Name of the node.
        module: Module of the table, relative to nav_monitor_ros, without suffix.
    """
    lines = [
        f'# Parameters of {node}, all at their defaults. Written by tools/write_docs.py from',
        f'# nav_monitor_ros/{module}.py; copy it and change the copy.',
        '/**:',
        '  ros__parameters:',
    ]
    for p in table:
        facts = [
            p.type, p.unit, p.range.replace('`', ''), 'per camera' if p.per_camera else '',
            'read-only' if p.read_only else '',
        ]
        lines.append('')
        lines.extend(f'    # {text}' for text in textwrap.wrap(p.text.replace('`', ''), 92))
        lines.append(f'    # ({"; ".join(fact for fact in facts if fact)})')
        lines.append(f'    {p.name}: {_yaml_value(p.default)}')
    return '\n'.join(lines) + '\n'


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def _described(value: Any) -> str:
    if value is None:
        return 'not set'
    names = {bool: 'bool', int: 'int', float: 'float', str: 'string'}
    kind = 'list' if isinstance(value, Sequence) else type(value).__name__
    return f'{short_repr(value)}, a {names.get(type(value), kind)}'
