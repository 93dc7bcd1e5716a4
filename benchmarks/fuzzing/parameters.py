"""Fuzzing of the monitor's parameters."""

from __future__ import annotations

import random
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.target import NUMBERS, Finding, Target


class ParametersTarget(Target):
    """Target: ``check_all``, with the arguments of a parameter callback."""

    most_memory = 16 << 20

    def __init__(self, folder: Path) -> None:
        """Import the table of parameters."""
        super().__init__(folder)
        from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS, check_all

        self._table = PARAMETERS
        self._check = check_all

    def fresh(self, chance: random.Random) -> dict[str, Any]:
        """Return the defaults."""
        return {parameter.name: parameter.default for parameter in self._table}

    def spoiled(self, case: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Change the values of some parameters; the set of names stays the same."""
        case = dict(case)
        for _ in range(chance.choice((1, 1, 2, 5))):
            parameter = chance.choice(self._table)
            case[parameter.name] = self._value(parameter, chance)
        return case

    def _value(self, parameter: Any, chance: random.Random) -> Any:
        whole = [number for number in NUMBERS if number < 1 << 63]
        numbers = [*whole, *(-number for number in whole), -(1 << 63), 0.5, -0.0, 5e-324, 1.8e308,
                   float('nan'), float('inf'), float('-inf')]
        texts = ['', ' ', 'auto', 'cpu', 'cuda', 'cuda:0', 'cuda:', 'cuda:-1', 'cuda:\u0663',
                 'cuda:' + '9' * 5000, 'a\nb', '\x00', '\ud800', '../x', 'x' * 100_000, 'raw',
                 'all', 'fused', *parameter.choices]
        near = [edge + by for edge in (parameter.low, parameter.high) if edge is not None
                for by in (-1, -1e-9, 0, 1e-9, 1)]
        single = [*numbers, *texts, *near, True, False, None, b'bytes', int(chance.random() * 100)]
        if chance.random() < 0.3:
            length = chance.choice((0, 1, 3, 4, 4, 4, 5, 1000))
            items = [chance.choice(chance.choice((single, whole))) for _ in range(length)]
            return chance.choice((list, tuple))(items)
        if chance.random() < 0.1:
            return chance.choice((array('q', [0, 0, 1, 1]), np.zeros(4), {'a': 1}, object()))
        return chance.choice(single)

    def feed(self, case: dict[str, Any]) -> object:
        """Check the parameters; accepted values must have the table's types and be stable."""
        checked = self._check(case)
        types = {'bool': bool, 'int': int, 'float': float, 'string': str}
        for parameter in self._table:
            value = checked[parameter.name]
            if not isinstance(value, types.get(parameter.type, list)):
                raise Finding(f'{parameter.name} is {value!r}')
        if self._check(checked) != checked:
            raise Finding('what was accepted is accepted as something else')
        return ()
