"""The parameters of the executable ``safety_stop``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.decision.velocity_gate import STOP_MODES
from nav_monitor_ros.runtime.parameter_definition import Parameter

SAFETY_STOP_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        'stamped', 'bool', False,
        'Type of the commands, in and out: `geometry_msgs/TwistStamped` if true, else '
        '`geometry_msgs/Twist`.',
        read_only=True,
    ),
    Parameter(
        'alert_timeout', 'float', 0.5,
        'Silence of `ood_alert` after which the robot is stopped; also how long a True counts, and '
        'the deadline and liveliness lease requested from its publishers. Use at least five '
        'periods of their `alert_rate`; otherwise the middleware reports neither.',
        low=0.05, high=10.0, read_only=True, unit='s',
    ),
    Parameter(
        'command_timeout', 'float', 0.5,
        'Time without a command after which zero is sent once; an older command is discarded.',
        low=0.05, high=10.0, unit='s',
    ),
    Parameter(
        'rate', 'float', 20.0,
        'Rate at which timeouts are checked, `~/stopped` is repeated and, while stopped, the '
        'stopping velocity is sent.',
        low=2.0, high=200.0, read_only=True, unit='Hz',
    ),
    Parameter(
        'stop_mode', 'string', 'hard',
        'How to stop: `hard` sends zero at once, `ramp` slows down at the given decelerations.',
        choices=STOP_MODES,
    ),
    Parameter(
        'linear_deceleration', 'float', 1.0,
        'With `ramp`, deceleration of each linear component.',
        low=0.05, high=100.0, unit='m/s^2',
    ),
    Parameter(
        'angular_deceleration', 'float', 2.0,
        'With `ramp`, deceleration of each angular component.',
        low=0.05, high=100.0, unit='rad/s^2',
    ),
    Parameter(
        'latch', 'bool', False,
        'Keep every stop, including the one at the start, until `~/reset` is called.',
    ),
)

BY_NAME: Mapping[str, Parameter] = {p.name: p for p in SAFETY_STOP_PARAMETERS}


def check_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters checked.

    Args:
        values: A value for each parameter of the table.

    Raises:
        NavMonitorError: A value is wrong; the message names it.
    """
    return {name: BY_NAME[name].check(value) for name, value in values.items()}
