"""Names of several cameras of one node; without ROS, so that launch files can check them, too."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nav_monitor_ros.errors import NavMonitorError

MOST_CAMERAS = 16
LONGEST_CAMERA_NAME = 64  # characters; a topic's name may have 255
_CAMERA_NAME = re.compile(r'[A-Za-z](_?[A-Za-z0-9])*')  # as ROS requires for a part of a name


def check_camera_names(cameras: Sequence[str], taken: Collection[str] = ()) -> None:
    """Check that the names of cameras are valid in names of topics and parameters.

    Args:
        cameras: Value of the parameter ``cameras``; empty names are ignored.
        taken: Names of parameters, which a camera must not have.

    Raises:
        NavMonitorError: A name is invalid, taken or repeated, or there are too many.
    """
    names = [name for name in cameras if name]
    for name in names:
        if not _CAMERA_NAME.fullmatch(name) or len(name) > LONGEST_CAMERA_NAME:
            shown = repr(name) if len(name) <= 80 else f'{name[:80]!r}...'
            raise NavMonitorError(
                f'parameter cameras names {shown}; a name must start with a letter, followed by '
                'letters, digits and single underscores, and have at most '
                f'{LONGEST_CAMERA_NAME} characters'
            )
        if name in taken:
            raise NavMonitorError(
                f"parameter cameras names '{name}', which is the name of a parameter; a parameter "
                'file could not set both, so choose another name'
            )
        if names.count(name) > 1:
            raise NavMonitorError(f"parameter cameras names '{name}' twice")
    if len(names) > MOST_CAMERAS:
        raise NavMonitorError(
            f'parameter cameras names {len(names)} cameras; one node supports at most '
            f'{MOST_CAMERAS}, so start another one'
        )
