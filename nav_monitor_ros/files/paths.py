"""Paths given by a user, whose errors are reported in one line with the path."""

from __future__ import annotations

from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError


def reachable(path: Path) -> Path:
    """Return a path of which can be told whether something is there.

    Raises:
        NavMonitorError: It cannot: permission is denied, the name is too long, links go in circles.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise NavMonitorError(f'{path} cannot be opened: {reason}') from None
    return path


def listed(folder: Path) -> list[Path]:
    """Return the entries of a folder.

    Raises:
        NavMonitorError: It cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise NavMonitorError(f'{folder} cannot be read: {error.strerror}') from None
