"""Parameters of each camera: those of the node, and the camera's overrides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all

OWN = tuple(parameter for parameter in PARAMETERS if parameter.per_camera)


def known_names(cameras: Sequence[str]) -> dict[str, Collection[str]]:
    """Return the names of the monitor's parameters, as arguments for ``describe_unknown``.

    Args:
        cameras: Names of several cameras, which may have overrides; empty names are ignored.
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
    """All checked parameters of the node."""

    common: Mapping[str, Any]  # parameters of the node, by name
    own: Mapping[str, Mapping[str, Any]]  # camera -> overrides, by name

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras; one empty name if the node has a single camera."""
        return tuple(self.own)

    def of(self, camera: str) -> dict[str, Any]:
        """Return the parameters of one camera."""
        return {**self.common, **self.own[camera]}

    def changed(self, changes: Mapping[str, Any], *, configured: bool = False) -> CameraValues:
        """Return the parameters after some were changed.

        Args:
            changes: New values by full name, such as ``front.roi`` for the camera ``front``; None
                for a deleted override, so that the node's value applies again. Unknown names are
                ignored.
            configured: Whether the parameters that are read at configuration have been read.

        Raises:
            NavMonitorError: A value is invalid or cannot be changed now; the message names the
                parameter.
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
            f'parameter {name} is read in the configure transition, and stays {before!r} until '
            'the next one: deactivate and clean up the node, set the parameter, and configure the '
            'node again'
        )


def checked_for(camera: str, name: str, value: Any) -> Any:
    """Return a camera's override, converted to the parameter's type.

    Raises:
        NavMonitorError: The value has another type or is out of range.
    """
    try:
        return BY_NAME[name].check(value)
    except NavMonitorError as error:
        raise NavMonitorError(str(error).replace(name, f'{camera}.{name}', 1)) from None


def checked_together(
    common: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]
) -> CameraValues:
    """Check the parameters of the node and of its cameras, each alone and together.

    Args:
        common: Parameters of the node, by name.
        own: Overrides, by camera and name.

    Raises:
        NavMonitorError: A value is invalid; the message names the parameter and the camera.
    """
    checked = check_all(common)
    for camera, values in own.items():
        try:
            check_all({**checked, **values})
        except NavMonitorError as error:
            raise NavMonitorError(f'camera {camera}: {error}') from None
    return CameraValues(checked, own)
