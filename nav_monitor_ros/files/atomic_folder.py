"""Folders whose new content appears complete or not at all, while other files are kept."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import (
    flush_to_disk,
    make_folders,
    remove_empty,
    shortened,
)
from nav_monitor_ros.files.paths import listed, reachable
from nav_monitor_ros.files.scratch_folder import remove_folder
from nav_monitor_ros.interrupt import UndoOnInterrupt, finish_uninterrupted

_MOUNTS = Path('/proc/self/mountinfo')
_OCTAL = re.compile(r'\\([0-7]{3})')  # how a mount point's spaces and tabs are written there


@contextmanager
def atomic_folder(
    folder: Path, *, owned: Collection[str] = (), last: str = ''
) -> Iterator[Path]:
    """Yield an empty folder of the same name, which replaces ``folder`` once it is complete.

    The other files of ``folder`` stay. A folder that cannot be replaced, such as the current one,
    has to be empty, and the content is moved into it.

    Args:
        folder: Need not exist; neither need its parents. A link to a folder stays.
        owned: Files in it, with slashes, that belong to the old content and go with it.
        last: The file that appears after all others where the content is moved into ``folder``.

    Raises:
        OSError: The disk is full, something may not be written, a disk is mounted in ``folder``, or
            a file that is not owned has the name of a new one. ``folder`` is as it was.
    """
    folder = folder.resolve()
    fill = folder.is_dir() and why_not_replaceable(folder) != ''
    parent = folder if fill else folder.parent
    made = [] if fill else make_folders(parent)

    def undo() -> None:
        remove_folder(hidden)
        remove_empty(made)

    try:
        hidden = Path(tempfile.mkdtemp(prefix=f'.{shortened(folder.name)}.', dir=parent))
    except OSError:
        remove_empty(made)
        raise
    with UndoOnInterrupt(undo):
        try:
            scratch = hidden / folder.name
            scratch.mkdir()
            yield scratch
            _flush(scratch)
            if fill:
                _move_into(scratch, folder, last)
            else:
                if folder.is_dir():
                    _keep_others(folder, scratch, owned)
                _exchange(scratch, folder)
            flush_to_disk(folder)
            flush_to_disk(folder.parent)
        finally:
            undo()


def require_writable_folder(folder: Path) -> None:
    """Check that ``atomic_folder`` can write a folder, before long work begins.

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
    reason = why_not_replaceable(folder.resolve())
    if reason and listed(folder):
        raise NavMonitorError(
            f'{folder} cannot be replaced: {reason}; name a folder in it, or an empty one'
        )
    if reason and not os.access(folder, os.W_OK | os.X_OK):
        raise NavMonitorError(f'cannot write {folder}: {os.strerror(errno.EACCES)}')


def why_not_replaceable(folder: Path) -> str:
    """Return why a folder cannot be replaced by another one; '' if it can."""
    with suppress(OSError):  # the current folder may be gone
        if Path.cwd().is_relative_to(folder):
            return 'it is, or contains, the current folder'
    if os.path.ismount(folder):
        return 'a disk is mounted there'
    mounted = _mount_point_in(folder)
    if mounted is not None:
        return f'a disk is mounted at {mounted}'
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        return f'{folder.parent} cannot be written to'
    return ''


def _mount_point_in(folder: Path) -> Path | None:
    """Return a mount point at or below a folder; None if there is none.

    Bind mounts of the same disk can be told by the system's list only.
    """
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:  # no such list on this system
        return None
    for line in lines:
        fields = os.fsdecode(line).split(' ')
        if len(fields) > 4:
            place = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
            if place.is_relative_to(folder):
                return place
    return None


def _flush(folder: Path) -> None:
    for place, _, files in os.walk(folder, onerror=_raise):
        for name in files:
            if not os.path.islink(os.path.join(place, name)):
                flush_to_disk(Path(place) / name)
        flush_to_disk(Path(place))


def _move_into(scratch: Path, folder: Path, last: str) -> None:
    """Move what is in ``scratch`` to an otherwise empty folder; all of it or nothing."""
    names = sorted((path.name for path in scratch.iterdir()), key=last.__eq__)
    if others := {path.name for path in folder.iterdir()} - {scratch.parent.name}:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder / min(others)))

    def undo() -> None:
        for name in names:
            with suppress(OSError):
                (folder / name).unlink()
            remove_folder(folder / name)

    with UndoOnInterrupt(undo):
        try:
            with finish_uninterrupted(folder):
                for name in names:
                    (scratch / name).rename(folder / name)
        except BaseException:
            undo()
            raise


def _exchange(scratch: Path, folder: Path) -> None:
    """Replace ``folder`` by ``scratch``; on failure the old folder is restored."""
    old = scratch.with_name(f'{shortened(folder.name)}.old')
    with finish_uninterrupted(folder):
        try:
            if folder.exists():
                folder.rename(old)
            scratch.rename(folder)
        except BaseException:
            with suppress(OSError):
                old.rename(folder)
            raise


def _keep_others(folder: Path, scratch: Path, owned: Collection[str]) -> None:
    """Keep the files of a folder that are not owned, in the folder that replaces it."""
    mounted = _mount_point_in(folder)
    if mounted is not None:  # it would be emptied with the old folder
        raise OSError(errno.EBUSY, f'a disk is mounted at {mounted}', str(folder))
    kept = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in [*files, *links]:
            if (inside / name).as_posix() in owned:
                continue
            (scratch / inside).mkdir(parents=True, exist_ok=True)
            _keep(Path(place) / name, scratch / inside / name)
        kept.append(inside)
        if inside.parts and not folders and not files and not any(
            one.startswith(f'{inside.as_posix()}/') for one in owned
        ):
            (scratch / inside).mkdir(parents=True, exist_ok=True)  # an empty folder stays, too
    for inside in reversed(kept):  # the innermost first: adding to a folder changes its time
        if (scratch / inside).is_dir():
            shutil.copystat(folder / inside, scratch / inside)


def _keep(file: Path, kept: Path) -> None:
    """Link a file to another place on the same disk, or copy it if that is impossible."""
    if os.path.lexists(kept):
        raise OSError(errno.EEXIST, f'{file} would be replaced', str(file))
    try:
        os.link(file, kept, follow_symlinks=False)
    except OSError:  # a disk without hard links, or a file of another user
        shutil.copy2(file, kept, follow_symlinks=False)


def _raise(error: OSError) -> None:
    """Abort the walk at a folder that cannot be read, because its files would be lost."""
    raise error
