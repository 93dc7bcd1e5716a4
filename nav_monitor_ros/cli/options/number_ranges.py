"""Ranges of numeric options, the same for every command that has the option."""

from __future__ import annotations

import argparse
import math

from nav_monitor_ros.errors import NavMonitorError

# Largest values of options that have the same meaning in every command.
_MOST = {'threads': 256, 'workers': 1024, 'epochs': 10**6, 'seed': 2**32 - 1}
# Ranges of options that only some commands have.
_RANGES = {'width': (320, 3840), 'channels': (1, 10**6), 'checkpoint_seconds': (0, 10**9)}


def check_numbers(options: argparse.Namespace) -> None:
    """Check the values of all numeric options.

    Raises:
        NavMonitorError: A value is out of range or not finite.
    """
    for name, most in _MOST.items():
        number = getattr(options, name, 0) or 0
        if number < 0:
            raise NavMonitorError(f'--{name} {number}: must not be negative')
        if number > most:
            raise NavMonitorError(f'--{name} {number}: must be at most {most}')
    for name, (least, most) in _RANGES.items():
        number = getattr(options, name, least)
        if not least <= number <= most:
            raise NavMonitorError(
                f'--{name.replace("_", "-")} {number}: must be from {least} to {most}'
            )
    for name, value in vars(options).items():
        if isinstance(value, float) and not math.isfinite(value) and name != 'tolerance':
            raise NavMonitorError(f'--{name.replace("_", "-")} {value}: must be finite')
