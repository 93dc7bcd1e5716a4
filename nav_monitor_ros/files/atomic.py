"""Files and folders that are there complete or not at all, whatever ends the process."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from nav_monitor_ros.interrupt import Unfinished, commit

_TRIES = 25  # to remove a folder into which another thread may still be writing
_LONGEST = 200  # bytes of a name of which another is made; file systems take 255
_PAUSE = 0.02  # seconds between them


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file takes the place of ``path`` once it is complete.

    A link stays, and the file that it leads to is replaced. What is no file on a disk, such as a
    pipe or ``/dev/null``, is written to as it is.

    Raises:
        OSError: The folder cannot be made, or the file not be put in its place.
    """
    if _is_written_straight(path):
        yield path
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    made = _make_folders(path.parent)
    scratch = path.with_name(f'.{_shortened(path.name)}.{secrets.token_hex(6)}.part')

    def undo() -> None:
        with suppress(OSError):
            scratch.unlink()
        _remove_empty(made)

    with Unfinished(undo):
        try:
            yield scratch
            with commit(path):
                with suppress(FileNotFoundError):
                    shutil.copymode(path, scratch)  # who may read it stays
                scratch.replace(path)
        except BaseException:
            undo()
            raise


def _is_written_straight(path: Path) -> bool:
    """Return whether a path is a device, a pipe, or stands for an open file.

    Raises:
        OSError: It is a folder, a socket, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISREG(mode):
        # A shell's redirection: another file in its place would not be what it reads.
        return path.is_symlink() and os.path.realpath(path.parent).startswith(('/dev', '/proc'))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    raise OSError(errno.EINVAL, 'it is neither a file, nor a pipe or a character device', str(path))


def _shortened(name: str) -> str:
    """Return a name that leaves room for more in a file's name."""
    return os.fsdecode(os.fsencode(name)[:_LONGEST])


class FolderBeside:
    """A folder beside another, whose place it or something in it takes once that is complete."""

    def __init__(self, folder: Path) -> None:
        """Make it.

        Raises:
            OSError: It cannot be made.
        """
        self._made = _make_folders(folder.parent)
        try:
            prefix = f'.{_shortened(folder.name)}.'
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        except OSError:
            _remove_empty(self._made)
            raise
        self._unfinished = Unfinished(self._remove)

    def close(self) -> None:
        """Remove what is left of it."""
        self._remove()
        self._unfinished.close()

    def _remove(self) -> None:
        remove_folder(self.path)
        _remove_empty(self._made)


@contextmanager
def scratch_folder(prefix: str = 'nav_monitor_') -> Iterator[Path]:
    """Yield a temporary folder that is gone afterwards, also where the process is interrupted."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with Unfinished(lambda: remove_folder(folder)):
        try:
            yield folder
        finally:
            remove_folder(folder)


def keep_others(folder: Path, scratch: Path, own: Set[str]) -> None:
    """Have the other files of a folder in that which is about to take its place, too.

    Args:
        folder: That is going to be replaced.
        scratch: That replaces it.
        own: Paths in the folder, with slashes, that are not kept.

    Raises:
        OSError: A file cannot be kept.
    """
    kept = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in [*files, *links]:
            if (inside / name).as_posix() in own:
                continue
            (scratch / inside).mkdir(parents=True, exist_ok=True)
            _keep(Path(place) / name, scratch / inside / name)
        kept.append(inside)
        if inside.parts and not folders and not files and not any(
            one.startswith(f'{inside.as_posix()}/') for one in own
        ):
            (scratch / inside).mkdir(parents=True, exist_ok=True)  # an empty folder stays, too
    for inside in reversed(kept):  # the inmost first: what is put into a folder changes its time
        if (scratch / inside).is_dir():
            shutil.copystat(folder / inside, scratch / inside)


def _raise(error: OSError) -> None:
    """Have a folder that cannot be read end the walk: its files would be lost."""
    raise error


def _keep(file: Path, kept: Path) -> None:
    """Have a file at another place of the same disk, without copying it where that is possible."""
    try:
        os.link(file, kept, follow_symlinks=False)
    except OSError:  # no hard links on this disk
        shutil.copy2(file, kept, follow_symlinks=False)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_PAUSE)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return those that were not there, the inmost first."""
    lacking = []
    while not folder.exists() and folder != folder.parent:
        lacking.append(folder)
        folder = folder.parent
    for missing in lacking[::-1]:
        missing.mkdir(exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return lacking


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds something
            folder.rmdir()
