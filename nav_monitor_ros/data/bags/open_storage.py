"""Opening one file of a bag, whatever its format, and the temporary copies that this may need."""

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

LARGEST_FILES = 16 << 30  # bytes that the compressed files of a bag may unpack to
_STORAGES: dict[bytes, Callable[[Path, Collection[str]], Storage]] = {
    storage_mcap.MAGIC: storage_mcap.McapStorage,
    storage_sqlite3.MAGIC: storage_sqlite3.Sqlite3Storage,
}


def open_storage(
    file: Path, copies: TemporaryCopies, types: Collection[str]
) -> tuple[Storage, str]:
    """Open one file of a bag by what it begins with.

    Args:
        file: Of the bag.
        copies: Takes what has to be unpacked or merged.
        types: Of the messages that are read.

    Returns:
        The file, and what is wrong with its compression or its journal, '' for nothing.

    Raises:
        OSError: It cannot be read.
        BagDamagedError: It is of no format that is read.
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
    """Open an SQLite file merged with what lies beside it; anew where a writer was met halfway."""
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
    """The disk space that copies of a bag's files may take, unpacked or merged."""

    def __init__(self, resources: ExitStack) -> None:
        """Take nothing yet; ``resources`` removes what will be taken."""
        self._resources = resources
        self._folder: Path | None = None
        self._left = 0

    def place(self, size: int) -> Path:
        """Return an empty folder for copies of so many bytes.

        Raises:
            BagDamagedError: There is no room for them.
        """
        folder = self._resources.enter_context(scratch_folder())
        free = shutil.disk_usage(folder).free
        if 2 * size > free:
            raise BagDamagedError(
                f'a copy needs {size} bytes, and {folder} has {free} free, of which half is used; '
                'set TMPDIR to a larger one'
            )
        return folder

    def unpack(self, file: Path) -> tuple[Path, str]:
        """Return a decompressed copy of a zstd file, and what is wrong with it, '' for nothing.

        Raises:
            BagDamagedError: It unpacks to more than there is room for.
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
                        raise BagDamagedError('it unpacks to more than there is room for')
                    plain.write(block)
            except (zstd.ZstdError, EOFError, MemoryError) as error:
                damage = f'its zstd data ends early: {one_line(error)}'
        return target, damage
