"""The parameters of the executable ``safety_stop``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.decision.velocity_gate import STOP_MODES
from nav_monitor_ros.runtime.parameter import Parameter

SAFETY_STOP_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        'stamped', 'bool', False,
        'Type of the commands, in and out: `geometry_msgs/TwistStamped` if true, else '
        '`geometry_msgs/Twist`.',
        read_only=True,
    ),
    Parameter(
        'alert_timeout', 'float', 0.5,
        'Silence of `ood_alert` that stops; also how long a True counts, and the deadline and '
        "liveliness lease that are asked of the alert's publishers. At least five periods of their "
        '`alert_rate`, or the middleware reports neither.',
        low=0.05, high=10.0, read_only=True, unit='s',
    ),
    Parameter(
        'command_timeout', 'float', 0.5,
        'Time without a command after which zero is sent, once.',
        low=0.05, high=10.0, unit='s',
    ),
    Parameter(
        'rate', 'float', 20.0,
        'How often the clock is looked at, `~/stopped` is repeated and, while stopped, the '
        'stopping velocity is sent.',
        low=2.0, high=200.0, read_only=True, unit='Hz',
    ),
    Parameter(
        'stop_mode', 'string', 'hard',
        'How to stop: `hard` sends zero at once, `ramp` slows down by the decelerations.',
        choices=STOP_MODES,
    ),
    Parameter(
        'linear_deceleration', 'float', 1.0,
        'With `ramp`, how fast each linear component goes to zero.',
        low=0.05, high=100.0, unit='m/s^2',
    ),
    Parameter(
        'angular_deceleration', 'float', 2.0,
        'With `ramp`, how fast each angular component goes to zero.',
        low=0.05, high=100.0, unit='rad/s^2',
    ),
    Parameter(
        'latch', 'bool', False,
        'Keep every stop, that of the start too, until `~/reset` is called.',
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
