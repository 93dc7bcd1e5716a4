"""The parameters in force for each camera: the node's, and what a camera has of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all

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
                    own[camera][name] = checked_for(camera, name, value)
        changed = checked_together(common, own)
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


def checked_for(camera: str, name: str, value: Any) -> Any:
    """Return a camera's own value of a parameter in the parameter's type.

    Raises:
        NavMonitorError: It has another type or is out of range.
    """
    try:
        return BY_NAME[name].check(value)
    except NavMonitorError as error:
        raise NavMonitorError(str(error).replace(name, f'{camera}.{name}', 1)) from None


def checked_together(
    common: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]
) -> CameraValues:
    """Return the parameters of the node and of its cameras, checked each alone and together.

    Args:
        common: The node's, by name.
        own: What each camera has of its own, by camera and name.

    Raises:
        NavMonitorError: A value is wrong; the message names it and the camera.
    """
    checked = check_all(common)
    for camera, values in own.items():
        try:
            check_all({**checked, **values})
        except NavMonitorError as error:
            raise NavMonitorError(f'camera {camera}: {error}') from None
    return CameraValues(checked, own)
