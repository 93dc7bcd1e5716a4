"""Open one file of a bag in any format, with the temporary copies that this may need."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from nav_monitor_ros.data.bags import sqlite3_journals, storage_mcap, storage_sqlite3
from nav_monitor_ros.data.bags.storage import ZSTD_MAGIC, BagDamagedError, Storage
from nav_monitor_ros.errors import one_line
from nav_monitor_ros.files.scratch_folder import scratch_folder

LARGEST_FILES = 16 << 30  # bytes to which the compressed files of a bag may unpack
_STORAGES: dict[bytes, Callable[[Path, Collection[str]], Storage]] = {
    storage_mcap.MAGIC: storage_mcap.McapStorage,
    storage_sqlite3.MAGIC: storage_sqlite3.Sqlite3Storage,
}


def open_storage(
    file: Path, copies: TemporaryCopies, types: Collection[str]
) -> tuple[Storage, str]:
    """Open one file of a bag; its first bytes tell the format.

    Args:
        file: File of the bag.
        copies: Space for unpacked or merged copies.
        types: Types of the messages that are read.

    Returns:
        The file, and the problem with its compression or its journal, '' if there is none.

    Raises:
        OSError: It cannot be read.
        BagDamagedError: Its format is not supported.
    """
    damage = ''
    if _beginning(file).startswith(ZSTD_MAGIC):
        file, damage = copies.unpack(file)
    beginning = _beginning(file)
    if beginning.startswith(storage_sqlite3.MAGIC) and not damage:
        return _open_sqlite3(file, copies, types)
    for magic, storage in _STORAGES.items():
        if beginning.startswith(magic):
            return storage(file, types), damage
    size = file.stat().st_size
    what = f'it holds {size} bytes that are neither MCAP nor SQLite' if size else 'it is empty'
    raise BagDamagedError(f'{what}{": " * bool(damage)}{damage}')


def _open_sqlite3(
    file: Path, copies: TemporaryCopies, types: Collection[str]
) -> tuple[Storage, str]:
    """Open an SQLite file merged with its journals; retry if it was written to meanwhile."""
    for last in (False, False, True):
        copy, left_out = sqlite3_journals.merged(file, copies.place)
        before = sqlite3_journals.states(file)
        try:
            storage = storage_sqlite3.Sqlite3Storage(copy, types)
        except BagDamagedError as error:
            if last or sqlite3_journals.states(file) == before:
                raise BagDamagedError('; '.join(filter(None, (left_out, str(error))))) from None
        else:
            if last or not storage.damage or sqlite3_journals.states(file) == before:
                return storage, left_out
            storage.close()
        time.sleep(sqlite3_journals.PAUSE)
    raise AssertionError('unreachable')


def _beginning(file: Path) -> bytes:
    with file.open('rb') as stream:
        return stream.read(16)


class TemporaryCopies:
    """Disk space for unpacked or merged copies of a bag's files."""

    def __init__(self, resources: ExitStack) -> None:
        """Reserve nothing yet; ``resources`` removes the copies."""
        self._resources = resources
        self._folder: Path | None = None
        self._left = 0

    def place(self, size: int) -> Path:
        """Return an empty folder for copies of the given size.

        Raises:
            BagDamagedError: There is not enough space.
        """
        folder = self._resources.enter_context(scratch_folder())
        free = shutil.disk_usage(folder).free
        if 2 * size > free:
            raise BagDamagedError(
                f'a copy needs {size} bytes, and {folder} has {free} free, of which at most half '
                'is used; '
                'set TMPDIR to a larger one'
            )
        return folder

    def unpack(self, file: Path) -> tuple[Path, str]:
        """Return a decompressed copy of a zstd file, and its problem, '' if there is none.

        Raises:
            BagDamagedError: The unpacked file exceeds the available space.
        """
        from backports import zstd

        if self._folder is None:
            folder = self._resources.enter_context(scratch_folder())
            self._folder = folder
            self._left = min(LARGEST_FILES, shutil.disk_usage(folder).free // 2)
        target = self._folder / f'{len(list(self._folder.iterdir()))}'
        damage = ''
        with target.open('wb') as plain, file.open('rb') as packed, zstd.open(packed) as source:
            try:
                while block := source.read(1 << 20):
                    self._left -= len(block)
                    if self._left < 0:
                        raise BagDamagedError('the unpacked file exceeds the available space')
                    plain.write(block)
            except (zstd.ZstdError, EOFError, MemoryError) as error:
                damage = f'its zstd data ends early: {one_line(error)}'
        return target, damage
