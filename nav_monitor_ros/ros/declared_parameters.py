"""Declaration of parameter tables on rclpy nodes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from nav_monitor_ros.ros.qos_overrides import describe_useless
from nav_monitor_ros.runtime.camera_overrides import (
    OWN,
    CameraValues,
    checked_for,
    checked_together,
)
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all
from nav_monitor_ros.runtime.parameter_definition import Parameter
from nav_monitor_ros.runtime.unknown_parameters import describe_unknown

_LARGEST_INTEGER = 2**63 - 1  # of ROS's parameters


def declare(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """Declare the parameters of a table on a node.

    Args:
        node: Node that owns the parameters.
        table: Parameters to declare.

    Returns:
        Values by name; each value has been checked on its own.

    Raises:
        NavMonitorError: A value passed at start has a wrong type or is out of range.
    """
    values, given = {}, overrides_of(node)
    for parameter in table:
        descriptor = described(parameter, parameter.text)
        value = parameter.check(given.get(parameter.name, parameter.default))
        # The checked value is declared, because an empty list has no type in ROS.
        node.declare_parameter(parameter.name, value, descriptor, ignore_override=True)
        values[parameter.name] = value
    return values


def described(parameter: Parameter, description: str) -> ParameterDescriptor:
    """Return the descriptor of a parameter of a table.

    A number has its range, which tools such as rqt_reconfigure show; rclpy does not check integers
    that are given for floats and lists against it, so the table checks every value again.

    Args:
        parameter: Parameter of the table.
        description: Description for users.
    """
    descriptor = ParameterDescriptor(
        description=description,
        additional_constraints=parameter.range,
        read_only=parameter.read_only,
        dynamic_typing=True,  # the table checks types; integers are accepted for floats
    )
    low, high = parameter.low, parameter.high
    if parameter.type == 'float' and low is not None:
        largest = sys.float_info.max if high is None else float(high)
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=float(low), to_value=largest)]
    elif parameter.type == 'int' and low is not None:
        descriptor.integer_range = [IntegerRange(
            from_value=int(low), to_value=_LARGEST_INTEGER if high is None else int(high))]
    return descriptor


def overrides_of(node: Any) -> dict[str, Any]:
    """Return the parameters passed to an rclpy node at start, by full name.

    rclpy has no public interface for them, and returns None for an empty list, which has no type
    in ROS.
    """
    return {
        name: [] if given.value is None else plain(given.value)
        for name, given in node._parameter_overrides.items()
    }


def plain(value: Any) -> Any:
    """Return a parameter's value as a built-in type; rclpy returns arrays instead of lists."""
    return value.tolist() if hasattr(value, 'tolist') else value


def declare_all(node: Node) -> CameraValues:
    """Declare the node's parameters and the overrides of each camera, if there are several.

    Raises:
        NavMonitorError: A value passed at start is invalid.
    """
    common = check_all(declare(node, PARAMETERS))
    names = [name for name in common['cameras'] if name]
    own = {camera: _declare_own(node, camera) for camera in names}
    return checked_together(common, own or {'': {}})


def _declare_own(node: Node, camera: str) -> dict[str, Any]:
    """Declare a camera's overrides; return those that were set at start."""
    given, overrides = {}, overrides_of(node)
    for parameter in OWN:
        full_name = f'{camera}.{parameter.name}'
        if full_name in overrides:
            value = checked_for(camera, parameter.name, overrides[full_name])
            declare_own(node, full_name, value)
            given[parameter.name] = value
        else:
            declare_own(node, full_name)
    return given


def declare_own(node: Node, full_name: str, value: Any = None) -> None:
    """Declare a parameter of one camera.

    Args:
        node: Node that owns the parameter.
        full_name: Full name, such as ``front.roi``.
        value: Value; None to leave the parameter unset, so that the node's value applies.
    """
    camera, _, name = full_name.rpartition('.')
    parameter = BY_NAME[name]
    descriptor = described(
        parameter, f"{name} of the camera {camera}; if unset or deleted: the node's value"
    )
    node.declare_parameter(full_name, value, descriptor, ignore_override=True)


def warn_of_unknown(node: Any, log: Any, **names: Collection[str]) -> list[str]:
    """Log a warning for each parameter passed at start that has no effect.

    Args:
        node: Node; the parameters that it has declared are known.
        log: Logger for the warnings.
        names: Arguments of ``describe_unknown``. QoS overrides of topics that the node creates
            later, its ``names_to_come``, are known.

    Returns:
        Logged lines.
    """
    given = [name for name in overrides_of(node) if not node.has_parameter(name)]
    overrides = describe_useless(node, given, getattr(node, 'names_to_come', ()))
    lines = describe_unknown([name for name in given if name not in overrides], **names)
    lines += filter(None, overrides.values())
    for line in lines:
        log.warning(line)
    return lines
