"""Paths that a user gave: what the system says of one becomes a line that names it."""

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
    """Return what is in a folder.

    Raises:
        NavMonitorError: It cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise NavMonitorError(f'{folder} cannot be read: {error.strerror}') from None


def refuse_same(
    outputs: dict[str, Path | None], inputs: dict[str, Path | None] | None = None
) -> None:
    """Check that a command writes each file once, and none that it reads.

    Args:
        outputs: Paths by the options that name them; None for what was not given.
        inputs: Likewise.

    Raises:
        NavMonitorError: Two of them are one path.
    """
    seen: dict[Path, str] = {}
    for given, written in ((inputs or {}, False), (outputs, True)):
        for option, path in given.items():
            if path is None or (reachable(path).exists() and not path.is_file()
                                and not path.is_dir()):
                continue  # a device or a pipe takes whatever comes
            place = path.resolve()
            if written and place in seen:
                raise NavMonitorError(
                    f'{option} {path} is the same file as {seen[place]}; name another one'
                )
            seen[place] = option
