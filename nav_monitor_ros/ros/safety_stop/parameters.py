"""The parameters of the executable ``safety_stop``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.decision.velocity_gate import STOP_MODES
from nav_monitor_ros.runtime.parameter_definition import Parameter

SAFETY_STOP_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        'stamped', 'bool', False,
        'Type of the incoming and outgoing commands: `geometry_msgs/TwistStamped` if true, '
        '`geometry_msgs/Twist` otherwise.',
        read_only=True,
    ),
    Parameter(
        'alert_timeout', 'float', 0.5,
        'Time without `ood_alert` after which the robot is stopped; also the time for which a True '
        'counts, and the deadline and liveliness lease requested from the publishers. Use at least '
        'five periods of their `alert_rate`; otherwise the offered deadline and lease do not '
        'satisfy the request, and the middleware reports no deadline or liveliness events.',
        low=0.05, high=10.0, read_only=True, unit='s',
    ),
    Parameter(
        'command_timeout', 'float', 0.5,
        'Time without a command after which zero is sent once; older commands are discarded.',
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
        'How to stop: `hard` sends zero immediately; `ramp` slows down with the given '
        'decelerations.',
        choices=STOP_MODES,
    ),
    Parameter(
        'linear_deceleration', 'float', 1.0,
        'Deceleration of each linear component with `ramp`.',
        low=0.05, high=100.0, unit='m/s^2',
    ),
    Parameter(
        'angular_deceleration', 'float', 2.0,
        'Deceleration of each angular component with `ramp`.',
        low=0.05, high=100.0, unit='rad/s^2',
    ),
    Parameter(
        'latch', 'bool', False,
        'Hold every stop, including the initial one, until `~/reset` is called.',
    ),
)

BY_NAME: Mapping[str, Parameter] = {p.name: p for p in SAFETY_STOP_PARAMETERS}


def check_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check all parameters and return their values.

    Args:
        values: Value of each parameter in the table.

    Raises:
        NavMonitorError: A value is invalid; the message names the parameter.
    """
    return {name: BY_NAME[name].check(value) for name, value in values.items()}
