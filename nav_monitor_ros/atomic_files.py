"""Files and folders that are there complete or not at all, whatever ends the process."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
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
