"""The folder that a bundle is written to: what may be replaced there, and how."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from nav_monitor_ros.bundle.bundle_files import CARD, DESCRIPTION, FITTED, own_files
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic import remove_folder
from nav_monitor_ros.files.paths import listed, reachable
from nav_monitor_ros.interrupt import Unfinished, commit


def check_output(
    folder: Path, *, force: bool = False, outside: Mapping[str, Path | None] | None = None,
    writes: Iterable[str] = (),
) -> None:
    """Check that a new bundle may be written to a folder, before hours of work go into it.

    Args:
        folder: Where it is to go.
        force: A bundle may be there, or other files; these stay.
        outside: Folders that are written to meanwhile and must not lie within, by their options.
        writes: Files that are going to be written, besides those of every bundle.

    Raises:
        NavMonitorError: It may not.
    """
    if (reachable(folder).exists() or folder.is_symlink()) and not folder.is_dir():
        raise NavMonitorError(f'{folder} is not a folder; choose another output folder')
    if not force and folder.is_dir() and listed(folder):
        holds = 'holds a bundle already' if (folder / DESCRIPTION).is_file() else 'is not empty'
        raise NavMonitorError(
            f'{folder} {holds}; choose another output folder, or write there with --force (files '
            "that are not the bundle's stay)"
        )
    _require_writable(folder)
    check_foreign(folder, {DESCRIPTION, FITTED, CARD, *writes})
    for option, path in (outside or {}).items():
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise NavMonitorError(
                f'{option} {path} lies in the output folder {folder}, which appears when the work '
                'is done; name one outside of it'
            )


def check_foreign(folder: Path, names: Iterable[str]) -> None:
    """Check that files which are going to be written replace none but those of a bundle.

    Raises:
        NavMonitorError: A file of somebody else has such a name.
    """
    own = own_files(folder)
    for name in sorted(names):
        if name not in own and os.path.lexists(folder / name):
            raise NavMonitorError(
                f'{folder / name} is no file of a bundle there, and would be replaced; move it, or '
                'choose another output folder'
            )


def is_fixed(folder: Path) -> str:
    """Return why another folder cannot take a folder's place; empty if it can."""
    with suppress(OSError):  # the current folder may be gone
        if Path.cwd().is_relative_to(folder):
            return 'it is, or holds, the current folder'
    if os.path.ismount(folder):
        return 'a disk is mounted there'
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        return 'the folder above cannot be written'
    return ''


def _require_writable(folder: Path) -> None:
    """Check that a folder can be made, replaced, or filled if it is empty.

    Raises:
        NavMonitorError: It cannot.
    """
    if not folder.is_dir():
        above = next(one for one in folder.resolve().parents if reachable(one).exists())
        if not above.is_dir():
            raise NavMonitorError(f'cannot write {folder}: {above} is not a folder')
        if not os.access(above, os.W_OK | os.X_OK):
            raise NavMonitorError(f'cannot write {folder}: {os.strerror(errno.EACCES)}: {above}')
        return
    fixed = is_fixed(folder.resolve())
    if not fixed:
        return
    if listed(folder):
        raise NavMonitorError(
            f'{folder} cannot be replaced by a new bundle: {fixed}; name a folder in it, or an '
            'empty one'
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NavMonitorError(f'cannot write {folder}: {os.strerror(errno.EACCES)}')


def move_into(scratch: Path, folder: Path) -> None:
    """Move what is in ``scratch`` to an empty folder, the description last; all of it or nothing.

    Raises:
        OSError: It cannot be moved; the folder is empty again.
    """
    names = sorted((path.name for path in scratch.iterdir()), key=DESCRIPTION.__eq__)

    def undo() -> None:
        for name in names:
            with suppress(OSError):
                (folder / name).unlink()
            remove_folder(folder / name)

    with Unfinished(undo):
        try:
            with commit(folder):
                for name in names:
                    (scratch / name).rename(folder / name)
        except BaseException:
            undo()
            raise


def replace_folder(scratch: Path, folder: Path) -> None:
    """Put ``scratch`` in the place of ``folder``; on failure the old folder is back."""
    old = scratch.with_name(scratch.name + '.old')
    with Unfinished(lambda: remove_folder(old)):
        with commit(folder):
            try:
                if folder.exists():
                    folder.rename(old)
                scratch.rename(folder)
            except BaseException:
                with suppress(OSError):
                    old.rename(folder)
                raise
        remove_folder(old)
