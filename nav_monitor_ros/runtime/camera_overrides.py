"""The parameters in force for each camera: the node's, and what a camera has of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.parameters import (
    BY_NAME,
    PARAMETERS,
    check_all,
    declare,
    overrides_of,
)

if TYPE_CHECKING:
    from rclpy.node import Node

OWN = tuple(parameter for parameter in PARAMETERS if parameter.per_camera)


def known_names(cameras: Sequence[str]) -> dict[str, Collection[str]]:
    """Return the names of the monitor's parameters, as ``describe_unknown`` takes them.

    Args:
        cameras: Names of several cameras, which may have parameters of their own; empty names are
            ignored.
    """
    own = [parameter.name for parameter in OWN]
    cameras = [camera for camera in cameras if camera]
    return {
        'known': {*BY_NAME, *(f'{camera}.{name}' for camera in cameras for name in own)},
        'per_camera': own,
        'cameras': cameras,
    }


@dataclass(frozen=True)
class CameraValues:
    """All parameters of the node, checked."""

    common: Mapping[str, Any]  # the node's, by name
    own: Mapping[str, Mapping[str, Any]]  # camera -> what it has of its own, by name

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the cameras' names; one empty name where the node has one without."""
        return tuple(self.own)

    def of(self, camera: str) -> dict[str, Any]:
        """Return the parameters in force for one camera."""
        return {**self.common, **self.own[camera]}

    def changed(self, changes: Mapping[str, Any], *, configured: bool = False) -> CameraValues:
        """Return the parameters after some were set.

        Args:
            changes: New values by full name, ``front.roi`` for one of the camera ``front``, and
                None for one that is deleted: the camera then has the node's again. Names that are
                not ours are left out.
            configured: Whether what is read when the node is configured has been read.

        Raises:
            NavMonitorError: A value is wrong, or cannot be changed now; the message names it.
        """
        common = {**self.common, **{k: v for k, v in changes.items() if k in BY_NAME}}
        own = {camera: dict(values) for camera, values in self.own.items()}
        for full_name, value in changes.items():
            camera, _, name = full_name.rpartition('.')
            if full_name in BY_NAME and value is None:
                raise NavMonitorError(
                    f'parameter {full_name} cannot be deleted; its default is '
                    f'{BY_NAME[full_name].default!r}'
                )
            if camera and camera in own and name in BY_NAME and BY_NAME[name].per_camera:
                if value is None:
                    own[camera].pop(name, None)
                else:
                    own[camera][name] = _checked(camera, name, value)
        changed = _checked_together(common, own)
        if configured:
            for name in changes:
                if name in BY_NAME and BY_NAME[name].at_configure:
                    _require_same(name, self.common[name], changed.common[name])
        return changed


def _require_same(name: str, before: Any, after: Any) -> None:
    if before != after:
        raise NavMonitorError(
            f'parameter {name} is read when the node is configured, and stays {before!r} until '
            'then: deactivate and clean up the node, set it, configure the node again'
        )


def declare_all(node: Node) -> CameraValues:
    """Declare the node's parameters and, for each of several cameras, those it may have of its own.

    Raises:
        NavMonitorError: A value given at start is wrong.
    """
    common = check_all(declare(node, PARAMETERS))
    names = [name for name in common['cameras'] if name]
    own = {camera: _declare_own(node, camera) for camera in names}
    return _checked_together(common, own or {'': {}})


def _declare_own(node: Node, camera: str) -> dict[str, Any]:
    """Declare what a camera may have of its own; return what was given."""
    given, overrides = {}, overrides_of(node)
    for parameter in OWN:
        full_name = f'{camera}.{parameter.name}'
        if full_name in overrides:
            value = _checked(camera, parameter.name, overrides[full_name])
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
    # Imported here, so that the values can be computed without ROS.
    from rcl_interfaces.msg import ParameterDescriptor

    camera, _, name = full_name.rpartition('.')
    parameter = BY_NAME[name]
    descriptor = ParameterDescriptor(
        description=f'{name} of the camera {camera}; not set, or deleted: that of the node',
        additional_constraints=parameter.range,
        read_only=parameter.read_only,
        dynamic_typing=True,
    )
    node.declare_parameter(full_name, value, descriptor, ignore_override=True)


def _checked(camera: str, name: str, value: Any) -> Any:
    try:
        return BY_NAME[name].check(value)
    except NavMonitorError as error:
        raise NavMonitorError(str(error).replace(name, f'{camera}.{name}', 1)) from None


def _checked_together(
    common: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]
) -> CameraValues:
    checked = check_all(common)
    for camera, values in own.items():
        try:
            check_all({**checked, **values})
        except NavMonitorError as error:
            raise NavMonitorError(f'camera {camera}: {error}') from None
    return CameraValues(checked, own)
