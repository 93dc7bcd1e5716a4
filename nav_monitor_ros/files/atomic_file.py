"""Files that appear complete or not at all, even if the process is killed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.interrupt import UndoOnInterrupt, finish_uninterrupted

_LONGEST_NAME = 200  # bytes of a name from which a temporary one is made; file systems allow 255
# Some file systems (FUSE, network shares) cannot flush a folder, or do it by themselves.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file replaces ``path`` once it is complete.

    The file is on the disk, not only in the system's cache, before it is renamed. A link stays, and
    the file that it leads to is replaced. What is no file on a disk, such as a pipe or
    ``/dev/null``, is written to directly.

    Raises:
        OSError: The folder cannot be made, the disk is full, or the file cannot be renamed.
    """
    if _is_written_directly(path):
        yield path
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    made = make_folders(path.parent)
    scratch = path.with_name(f'.{shortened(path.name)}.{secrets.token_hex(6)}.part')

    def undo() -> None:
        with suppress(OSError):
            scratch.unlink()
        remove_empty(made)

    with UndoOnInterrupt(undo):
        try:
            yield scratch
            flush_to_disk(scratch)
            with finish_uninterrupted(path):
                with suppress(FileNotFoundError):
                    shutil.copymode(path, scratch)  # keep the permissions
                scratch.replace(path)
            flush_to_disk(path.parent)
        except BaseException:
            undo()
            raise


def write_file(path: Path, content: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        NavMonitorError: It cannot be written.
    """
    try:
        with atomic_file(path) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror}') from error


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together; none is replaced before all are written.

    Raises:
        NavMonitorError: One cannot be written.
    """
    path = None
    try:
        with ExitStack() as renamed:
            for path, content in contents.items():
                renamed.enter_context(atomic_file(path)).write_bytes(content)
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror}') from error


def flush_to_disk(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk.

    Raises:
        OSError: The disk is full or broken.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:  # a file that its owner may not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(handle)


def shortened(name: str) -> str:
    """Return a file name to which a prefix and a suffix can be added."""
    return os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])


def make_folders(folder: Path) -> list[Path]:
    """Create a folder and its parents; return those that did not exist, innermost first.

    Raises:
        OSError: One of them cannot be made, or is no folder.
    """
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    for one in missing[::-1]:
        one.mkdir(exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _is_written_directly(path: Path) -> bool:
    """Return whether a path is a device, a pipe or refers to an open file.

    Raises:
        OSError: It is a folder, a socket, or cannot be examined.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISREG(mode):
        # A shell's redirection, whose reader would not see a file that replaces it.
        return path.is_symlink() and os.path.realpath(path.parent).startswith(('/dev', '/proc'))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    raise OSError(errno.EINVAL, 'it is neither a file, nor a pipe or a character device', str(path))
