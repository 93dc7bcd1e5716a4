"""Merge the journals that a recorder left next to an SQLite file, as SQLite itself would.

A recorder that was killed leaves its last transactions in a write-ahead log (``-wal``), or half of
its last transaction in the file and the data to roll it back in a rollback journal (``-journal``).
SQLite merges either when it opens the file, but writes into the bag's folder to do so. Here a
private copy is merged, and the bag is not changed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nav_monitor_ros.data.bags.storage import BagDamagedError
from nav_monitor_ros.errors import one_line

_ENDINGS = ('-wal', '-journal')
_JOURNAL_MAGIC = b'\xd9\xd5\x05\xf9\x20\xa1\x63\xd7'  # ends a journal that names another file
_LOG_MAGICS = (0x377F0682, 0x377F0683)
_LOG_HEADER = struct.Struct('>8I')  # magic, version, page size, number, two salts, two checksums
_FRAME = np.dtype([('page', '>u4'), ('pages', '>u4'), ('salts', '>u4', 2), ('sums', '>u4', 2)])
# Bytes beyond the file's end that SQLite locks: those that a writer holds, and those of any
# connection to a file with a write-ahead log.
_RESERVED, _SHARED = (0x40000001, 1), (0x40000002, 510)
_LIVE = 'it is being written to; only committed data is read'
_ATTEMPTS = 3  # to copy files that are changing
PAUSE = 0.1  # seconds between them
_STEPS = 1_000_000  # steps of SQLite's virtual machine; the schema of a bag needs a few hundred


def merged(path: Path, place: Callable[[int], Path]) -> tuple[Path, str]:
    """Return the file to read instead of a bag's file, and what could not be merged.

    Args:
        path: An SQLite file; neither it nor anything in its folder is changed.
        place: Creates an empty private folder for the given number of bytes; raises
            ``BagDamagedError`` if there is not enough space.

    Returns:
        The file itself if it has no journals, else a merged copy; and a text on what is missing, ''
        if everything was merged.
    """
    path = path.resolve()
    beside, problem = _beside(path)
    if not beside:
        return path, problem or _being_written(path)
    problems = [problem]
    try:
        folder = place(sum(file.stat().st_size for file in (path, *beside)))
        live = _locked(path, *_SHARED)
        if live and not any(file.name.endswith('-wal') for file in beside):
            return path, _LIVE  # a reader's lock would keep the writer from committing
        if live:
            copy = _copy_of_live(path, folder)
            problems.append(_LIVE)
        else:
            copy, changed = _copied(path, beside, folder)
            problems.append(changed)
            whole, left_out = _merge(copy)
            problems.append(left_out)
            if not whole:
                return path, _joined(problems)
    except (OSError, sqlite3.Error, BagDamagedError) as error:
        names = ' and '.join(f'{path.name}{file.name[len(path.name):]}' for file in beside)
        problems.append(
            f'{names} cannot be merged, and its contents are missing: '
            f'{one_line(getattr(error, "strerror", None) or error)}'
        )
        return path, _joined(problems)
    return copy, _joined(problems)


def _joined(problems: list[str]) -> str:
    return '; '.join(problem for problem in problems if problem)


def _beside(path: Path) -> tuple[list[Path], str]:
    """Return the non-empty journals of a file, and a problem with one of them."""
    found, problem = [], ''
    for ending in _ENDINGS:
        file = path.with_name(path.name + ending)
        try:
            described = file.lstat()
        except OSError:
            continue
        if not stat.S_ISREG(described.st_mode):
            problem = f'{file.name} is not a regular file, and is not read'
        elif described.st_size and not _is_zero(file):
            found.append(file)
    return found, problem


def _is_zero(file: Path) -> bool:
    """Return whether a journal has been committed by overwriting its header."""
    if not file.name.endswith('-journal'):
        return False
    with file.open('rb') as stream:
        return not stream.read(1).strip(b'\0')


def _being_written(path: Path) -> str:
    logging_now = path.with_name(f'{path.name}-shm').exists() and _locked(path, *_SHARED)
    return _LIVE if logging_now or _locked(path, *_RESERVED) else ''


def _locked(path: Path, start: int, length: int) -> bool:
    """Return whether another process holds a lock on these bytes of a file."""
    try:
        import fcntl

        asked = struct.pack('hhqqi', fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        with path.open('rb') as stream:
            answer = fcntl.fcntl(stream, fcntl.F_GETLK, asked)
        return struct.unpack('hhqqi', answer)[0] != fcntl.F_UNLCK
    except (ImportError, OSError):  # a file system without locks
        return False


def _copy_of_live(path: Path, folder: Path) -> Path:
    """Copy a file whose write-ahead log is in use, by SQLite's own rules.

    The writer is not blocked.
    """
    copy = folder / 'live.db3'
    source = sqlite3.connect(f'{path.as_uri()}?mode=ro', uri=True)
    try:
        target = sqlite3.connect(copy)
        try:
            source.backup(target)
            target.execute('PRAGMA journal_mode = DELETE')
        finally:
            target.close()
    finally:
        source.close()
    return copy


def _copied(path: Path, beside: list[Path], folder: Path) -> tuple[Path, str]:
    """Copy a file with its journals; return whether they changed meanwhile."""
    copy = folder / 'copy.db3'
    for _ in range(_ATTEMPTS):
        before = states(path)
        shutil.copyfile(path, copy)
        for file in beside:
            target = copy.with_name(copy.name + file.name[len(path.name):])
            target.unlink(missing_ok=True)
            if file.exists():
                shutil.copyfile(file, target)
        if states(path) == before:
            return copy, ''
        time.sleep(PAUSE)
    return copy, 'it is being written to; the last messages may be missing'


def states(path: Path) -> list[tuple[int, int, int] | None]:
    """Return values that change when a file or one of its journals is written to."""
    states: list[tuple[int, int, int] | None] = []
    for file in (path, *(path.with_name(path.name + ending) for ending in _ENDINGS)):
        try:
            found = file.stat()
        except OSError:
            states.append(None)
        else:
            states.append((found.st_ino, found.st_size, found.st_mtime_ns))
    return states


def _merge(copy: Path) -> tuple[bool, str]:
    """Merge a private copy with its journals.

    Returns:
        Whether the copy can be read, and which part of the journals was left out.
    """
    journal, log = (copy.with_name(copy.name + ending) for ending in ('-journal', '-wal'))
    problem = ''
    if journal.exists() and _names_a_file(journal):
        # SQLite would open that file, and might delete it.
        journal.unlink()
        problem = 'its rollback journal names another file and is not used'
    described = _LogFrames(log) if log.exists() else None
    size = copy.stat().st_size
    used = _merge_by_sqlite(copy)
    if described is None:
        return True, problem
    if described.misses(size, used):
        return False, _joined([problem, 'it is truncated, so its write-ahead log is left out'])
    return True, _joined([problem, described.left_out(used)])


def _merge_by_sqlite(copy: Path) -> int:
    """Have SQLite merge a private copy, and return how many frames of a log it used."""
    left = _STEPS

    def spend() -> bool:
        nonlocal left
        left -= 1000
        return left < 0

    connection = sqlite3.connect(copy)
    try:
        # Otherwise a damaged file is refused as a whole.
        connection.execute('PRAGMA writable_schema = ON')
        connection.execute('PRAGMA trusted_schema = OFF')
        connection.set_progress_handler(spend, 1000)
        _, used, _ = connection.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()
        connection.execute('PRAGMA journal_mode = DELETE').fetchone()
    finally:
        connection.close()
    return max(0, used)


def _names_a_file(journal: Path) -> bool:
    with journal.open('rb') as stream:
        stream.seek(-min(len(_JOURNAL_MAGIC), journal.stat().st_size), os.SEEK_END)
        return stream.read() == _JOURNAL_MAGIC


def _is_intact(header: bytes) -> bool:
    """Return whether the header of a write-ahead log agrees with its checksum."""
    order = '>' if header[3] & 1 else '<'
    first, second = 0, 0
    for one, other in struct.iter_unpack(f'{order}II', header[:24]):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return struct.unpack('>II', header[24:]) == (first, second)


class _LogFrames:
    """What the frames of a write-ahead log say of themselves."""

    def __init__(self, log: Path) -> None:
        self._size = log.stat().st_size
        with log.open('rb') as stream:
            header = stream.read(_LOG_HEADER.size)
        self._usable = False
        self._page, self._rest = 0, 0
        self.frames: np.ndarray = np.zeros(0, _FRAME)
        if len(header) < _LOG_HEADER.size or not _is_intact(header):
            return
        magic, _, page, _, *salts, _, _ = _LOG_HEADER.unpack(header)
        if magic not in _LOG_MAGICS or not 512 <= page <= 65536 or page & (page - 1):
            return
        self._usable, self._page = True, page
        step = _FRAME.itemsize + page
        count, self._rest = divmod(self._size - _LOG_HEADER.size, step)
        if not count:
            return
        content = np.memmap(log, np.uint8, 'r')
        frames: np.ndarray = np.ndarray(
            (count,), _FRAME, content, offset=_LOG_HEADER.size, strides=(step,)).copy()
        del content
        # Behind those of this round lie those of the round before, which are in the file.
        own = np.flatnonzero((frames['salts'] == salts).all(axis=1))
        self.frames = frames[: own[-1] + 1 if len(own) else 0]
        if len(self.frames) < count:
            self._rest = 0

    def misses(self, size: int, used: int) -> bool:
        """Return whether pages are neither in a file of this size nor in the frames used."""
        frames: np.ndarray = self.frames[:used]
        if not len(frames):
            return False
        there, pages = size // self._page, int(frames['pages'][-1])
        logged = np.unique(frames['page'])
        return int(((logged > there) & (logged <= pages)).sum()) < pages - there

    def left_out(self, used: int) -> str:
        """Describe what SQLite did not merge, given the number of frames that it used."""
        if not self._usable:
            return 'its write-ahead log is damaged, and none of it can be read'
        left = len(self.frames) - used
        if left > 0 or self._rest:
            return (
                f'the end of its write-ahead log is unfinished or damaged ({max(left, 0)} of '
                f'{len(self.frames)} pages are left out)'
            )
        return ''
