"""Parameter tables declared on nodes of rclpy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from nav_monitor_ros.runtime.camera_overrides import (
    OWN,
    CameraValues,
    checked_for,
    checked_together,
)
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all
from nav_monitor_ros.runtime.parameter_definition import Parameter
from nav_monitor_ros.runtime.unknown_parameters import describe_unknown


def declare(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """Declare the parameters of a table on a node.

    Returns:
        Their values, by name, each checked by itself.

    Raises:
        NavMonitorError: A value given at start has a wrong type or is out of range.
    """
    values, given = {}, overrides_of(node)
    for parameter in table:
        descriptor = ParameterDescriptor(
            description=parameter.text,
            additional_constraints=parameter.range,
            read_only=parameter.read_only,
            dynamic_typing=True,  # the table checks types; whole numbers may stand for floats
        )
        value = parameter.check(given.get(parameter.name, parameter.default))
        # What is declared is what is in force: an empty list has no type in ROS.
        node.declare_parameter(parameter.name, value, descriptor, ignore_override=True)
        values[parameter.name] = value
    return values


def overrides_of(node: Any) -> dict[str, Any]:
    """Return the parameters that a node of rclpy was given at start, by full name.

    rclpy has no public way to them, and gives nothing for an empty list, whose type ROS does not
    know.
    """
    return {
        name: [] if given.value is None else plain(given.value)
        for name, given in node._parameter_overrides.items()
    }


def plain(value: Any) -> Any:
    """Return a parameter's value in Python's own types; rclpy gives arrays for lists."""
    return value.tolist() if hasattr(value, 'tolist') else value


def declare_all(node: Node) -> CameraValues:
    """Declare the node's parameters and, for each of several cameras, those it may have of its own.

    Raises:
        NavMonitorError: A value given at start is wrong.
    """
    common = check_all(declare(node, PARAMETERS))
    names = [name for name in common['cameras'] if name]
    own = {camera: _declare_own(node, camera) for camera in names}
    return checked_together(common, own or {'': {}})


def _declare_own(node: Node, camera: str) -> dict[str, Any]:
    """Declare what a camera may have of its own; return what was given."""
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
        node: Of rclpy.
        full_name: Such as ``front.roi``.
        value: None where the node's holds; then the parameter is not set.
    """
    camera, _, name = full_name.rpartition('.')
    parameter = BY_NAME[name]
    descriptor = ParameterDescriptor(
        description=f'{name} of the camera {camera}; not set, or deleted: that of the node',
        additional_constraints=parameter.range,
        read_only=parameter.read_only,
        dynamic_typing=True,
    )
    node.declare_parameter(full_name, value, descriptor, ignore_override=True)


def warn_of_unknown(node: Any, log: Any, **names: Collection[str]) -> list[str]:
    """Log which of the parameters that a node was given at start nothing reads.

    Args:
        node: Of rclpy; what it has declared is known.
        log: Gets a line for each.
        names: As ``describe_unknown`` takes them.

    Returns:
        The lines.
    """
    given = [name for name in overrides_of(node) if not node.has_parameter(name)]
    lines = describe_unknown(given, **names)
    for line in lines:
        log.warning(line)
    return lines
