"""Checks of output paths, before long work begins."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable

Paths = Mapping[str, Path | Iterable[Path] | None]  # by the options that name them


def check_output_paths(outputs: Paths, inputs: Paths) -> None:
    """Check that outputs of a command do not collide with each other or with its inputs.

    Paths are compared by what they lead to, so that links, hard links and bind mounts are seen.
    Devices and pipes take whatever comes.

    Args:
        outputs: Files and folders that are written, by the options that name them.
        inputs: Files and folders that are read, likewise.

    Raises:
        NavMonitorError: Two outputs are one path; or an output is an input, contains one, or lies
            in an input folder.
    """
    read = list(_on_disk(inputs))
    written: list[tuple[str, Path]] = []
    for option, path in _on_disk(outputs):
        for other, theirs in written:
            if is_same_file(path, theirs):
                raise NavMonitorError(
                    f'{option} {path} is the same file as {other}; name another one'
                )
        for other, theirs in read:
            _require_apart(option, path, other, theirs)
        written.append((option, path))


def require_place(path: Path) -> None:
    """Check that a file can be written, before long work begins.

    Raises:
        NavMonitorError: There is a folder in its place, or a file in its folder's, or one may not
            write there.
    """
    if reachable(path).is_dir():
        raise NavMonitorError(f'cannot write {path}: it is a folder')
    if path.exists() and not path.is_file():
        return  # a device or a pipe, for which the folder does not matter
    if path.exists() and not path.stat().st_mode & 0o222:
        raise NavMonitorError(f'cannot write {path}: it is read-only')
    above = next(folder for folder in path.absolute().parents if reachable(folder).exists())
    if not above.is_dir():
        raise NavMonitorError(f'cannot write {path}: {os.strerror(errno.ENOTDIR)}')
    if not os.access(above, os.W_OK | os.X_OK):
        raise NavMonitorError(f'cannot write {path}: {os.strerror(errno.EACCES)}')


def is_same_file(path: Path, other: Path) -> bool:
    """Return whether two paths refer to the same file or folder, which need not exist."""
    identity = _identity(path)
    return path.resolve() == other.resolve() or (
        identity is not None and identity == _identity(other)
    )


def _on_disk(paths: Paths) -> Iterator[tuple[str, Path]]:
    """Yield each option with each of its paths that is, or may become, a file or a folder."""
    for option, given in paths.items():
        for path in (given,) if isinstance(given, Path) else given or ():
            if not reachable(path).exists() or path.is_file() or path.is_dir():
                yield option, path


def _require_apart(output: str, path: Path, option: str, theirs: Path) -> None:
    if is_same_file(path, theirs):
        raise NavMonitorError(
            f'{output} {path} is the same file as {option} {theirs}, which is read; name another '
            'one'
        )
    if _contains(theirs, path):
        raise NavMonitorError(
            f'{output} {path} lies in {option} {theirs}, which is read; name a path outside of it'
        )
    if _contains(path, theirs):
        raise NavMonitorError(
            f'{output} {path} contains {option} {theirs}, which is read; name another one'
        )


def _contains(folder: Path, path: Path) -> bool:
    """Return whether a path lies in a folder, by its name or by where links and mounts lead."""
    places = (Path(os.path.abspath(path)), path.resolve())
    above = [parent for place in places for parent in place.parents]
    if folder.resolve() in above:
        return True
    identity = _identity(folder)
    return identity is not None and identity in map(_identity, above)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file in the system; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
