"""Names of several cameras of one node; without ROS, so that launch files check them too."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nav_monitor_ros.errors import NavMonitorError

MOST_CAMERAS = 16
LONGEST_CAMERA_NAME = 64  # characters; a topic's name may have 255
_CAMERA_NAME = re.compile(r'[A-Za-z](_?[A-Za-z0-9])*')  # as ROS wants a part of a name


def check_camera_names(cameras: Sequence[str], taken: Collection[str] = ()) -> None:
    """Check that topics and parameters can be named after these cameras.

    Args:
        cameras: The parameter's value; empty names are ignored.
        taken: Names of parameters, which a camera cannot have.

    Raises:
        NavMonitorError: They cannot.
    """
    names = [name for name in cameras if name]
    for name in names:
        if not _CAMERA_NAME.fullmatch(name) or len(name) > LONGEST_CAMERA_NAME:
            shown = repr(name) if len(name) <= 80 else f'{name[:80]!r}...'
            raise NavMonitorError(
                f'parameter cameras names {shown}; a name begins with a letter and goes on '
                f'with letters, digits and single underscores, {LONGEST_CAMERA_NAME} at most'
            )
        if name in taken:
            raise NavMonitorError(
                f"parameter cameras names '{name}', as a parameter is named; a file could not set "
                'both, take another name'
            )
        if names.count(name) > 1:
            raise NavMonitorError(f"parameter cameras names '{name}' twice")
    if len(names) > MOST_CAMERAS:
        raise NavMonitorError(
            f'parameter cameras names {len(names)} cameras; one node takes {MOST_CAMERAS} at most, '
            'start another'
        )
