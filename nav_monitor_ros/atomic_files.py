"""Files and folders that are there complete or not at all, whatever ends the process."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from nav_monitor_ros.interrupt import Unfinished, commit

_TRIES = 25  # to remove a folder into which another thread may still be writing
_PAUSE = 0.02  # seconds between them


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file takes the place of ``path`` once it is complete.

    Raises:
        OSError: The folder cannot be made, or the file not be put in its place.
    """
    made = _make_folders(path.parent)
    scratch = path.with_name(f'.{path.name}.part')

    def undo() -> None:
        with suppress(OSError):
            scratch.unlink()
        _remove_empty(made)

    with Unfinished(undo):
        try:
            yield scratch
            with commit(path):
                scratch.replace(path)
        except BaseException:
            undo()
            raise


class FolderBeside:
    """A folder beside another, whose place it or something in it takes once that is complete."""

    def __init__(self, folder: Path) -> None:
        """Make it.

        Raises:
            OSError: It cannot be made.
        """
        self._made = _make_folders(folder.parent)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
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
