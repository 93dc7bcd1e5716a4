"""SQLite files of a bag, read row by row as far as they are intact."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nav_monitor_ros.data.bags.storage import (
    ENTRY,
    IMAGE_TYPES,
    LARGEST,
    LONGEST,
    MOST,
    BagDamagedError,
    Storage,
    Topic,
    unpack_message,
)
from nav_monitor_ros.errors import one_line

MAGIC = b'SQLite format 3\0'
_COLUMNS = {
    'topics': {'id', 'name', 'type', 'serialization_format'},
    'messages': {'id', 'topic_id', 'timestamp', 'data'},
}
_MOST_TOPICS = 1 << 16
_MOST_IN_A_PAGE = 64  # messages of at least a hundred bytes, in pages of 4096
_STEPS = 100_000  # steps of SQLite's virtual machine between two checks of the remaining budget
# Errors of SQLite, and of Python for a value out of range.
_UNREADABLE = (sqlite3.Error, OverflowError, UnicodeDecodeError, MemoryError)


class Sqlite3Storage(Storage):
    """A ``.db3`` file, opened read-only; journals and locks are neither created nor used."""

    def __init__(self, path: Path, types: Collection[str] = IMAGE_TYPES) -> None:
        """Index a file.

        Args:
            path: Path of a file that begins with ``MAGIC``; ``sqlite3_journals`` has merged its
                journals.
            types: Types of the messages that are wanted.

        Raises:
            OSError: It cannot be read.
            BagDamagedError: It does not hold a bag.
        """
        self._types = types
        self._size = os.stat(path).st_size
        self.damage = 'it is truncated' if _promises(path) > self._size else ''
        # Pages that point to each other in a cycle would keep SQLite busy forever.
        self._budget = _STEPS + self._size
        # Any thread may read; the caller ensures that only one does at a time.
        self._connection = sqlite3.connect(
            f'{path.resolve().as_uri()}?mode=ro&immutable=1', uri=True, check_same_thread=False
        )
        try:
            self._prepare()
            self._numbers: dict[int, int] = {}  # number in the file -> index among the topics
            self.topics = self._read_topics()
            self.entries = self._read_entries()
            if self.damage:
                self.entries = self._whole(self.entries)
            self._connection.set_progress_handler(None, 0)
        except _UNREADABLE as error:
            self._connection.close()
            raise BagDamagedError(one_line(error)) from None
        except BaseException:
            self._connection.close()
            raise

    def read(self, entry: Any) -> bytes:
        """Return one serialised message."""
        return unpack_message(self._data(int(entry['place'])))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self) -> None:
        """Check the file, and prevent it from making SQLite do anything but read tables."""
        connection = self._connection
        # Otherwise a truncated file is refused as a whole; nothing can be written.
        connection.execute('PRAGMA writable_schema = ON')
        connection.execute('PRAGMA trusted_schema = OFF')
        connection.execute('PRAGMA cell_size_check = ON')
        connection.set_progress_handler(self._spend, _STEPS)
        for table, columns in _COLUMNS.items():
            # Views and virtual tables, which have no root page, could run code.
            found = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
            ).fetchall()
            listed = connection.execute(f'PRAGMA table_xinfo({table})').fetchall()
            stored = {column[1] for column in listed if not column[6]}  # no generated ones
            if len(found) != 1 or not found[0][0] or not columns <= stored:
                raise BagDamagedError(
                f'it has no table {table} with the columns of a bag'
            )

    def _data(self, place: int) -> bytes:
        """Return the data of a message's row."""
        largest = min(LARGEST, self._size)
        try:
            row = self._connection.execute(
                'SELECT length(data), typeof(data) FROM messages WHERE rowid = ?', (place,)
            ).fetchone()
            if row is None or row[1] != 'blob':
                raise BagDamagedError(f'message {place} is gone or holds no data')
            if row[0] > largest:
                raise BagDamagedError(
                    f'message {place} has {row[0]} bytes, more than the {largest} possible'
                )
            (data,) = self._connection.execute(
                'SELECT data FROM messages WHERE rowid = ?', (place,)
            ).fetchone()
        except _UNREADABLE as error:
            raise BagDamagedError(f'message {place}: {one_line(error)}') from None
        return data

    def _whole(self, entries: np.ndarray) -> np.ndarray:
        """Leave out the messages that SQLite would pad with zeros.

        It does so if a file is truncated within its last page. The last messages written, which may
        extend into that page, must end in something else.
        """
        first = max(0, len(entries) - _MOST_IN_A_PAGE)
        kept = np.ones(len(entries), bool)
        for number in range(first, len(entries)):
            with suppress(BagDamagedError):
                kept[number] = not self._data(int(entries[number]['place'])).endswith(b'\0')
        return entries[kept]

    def _spend(self) -> bool:
        """Return whether SQLite must stop."""
        self._budget -= _STEPS
        return self._budget < 0

    def _read_topics(self) -> tuple[Topic, ...]:
        topics: list[Topic] = []
        rows = self._connection.execute(
            'SELECT id, substr(name, 1, ?1), substr(type, 1, ?1), '
            f'substr(serialization_format, 1, ?1) FROM topics LIMIT {_MOST_TOPICS}', (LONGEST,)
        )
        for number, *texts in rows:
            self._numbers[number] = len(topics)
            topics.append(Topic(*map(str, texts)))
        return tuple(topics)

    def _read_entries(self) -> np.ndarray:
        """List the messages without reading their data, as far as the table is intact."""
        wanted = {
            number: place for number, place in self._numbers.items()
            if self.topics[place].holds(self._types)
        }
        entries: np.ndarray = np.zeros(1024, ENTRY)
        count = 0
        try:
            # By row number, the order in which the file was written, and not through an index,
            # which is at the end of the file.
            for place, topic, time in self._connection.execute(
                'SELECT rowid, topic_id, timestamp FROM messages NOT INDEXED ORDER BY rowid'
            ):
                if topic not in wanted:
                    continue
                if count == MOST:
                    raise BagDamagedError(f'it has more than the {MOST} messages allowed')
                if count == len(entries):
                    entries = np.concatenate([entries, np.zeros(count, ENTRY)])
                with suppress(TypeError, ValueError):
                    entries[count] = (time, wanted[topic], place, 0)
                    count += 1
        except (*_UNREADABLE, BagDamagedError) as error:
            self.damage = self.damage or one_line(error)
        return entries[:count].copy()


def _promises(path: Path) -> int:
    """Return the size of the file according to its header, bytes; 0 if it is not stated."""
    with path.open('rb') as stream:
        header = stream.read(100)
    # Page size, and number of pages if it was updated with the last change of the file.
    page = int.from_bytes(header[16:18], 'big')
    valid = len(header) == 100 and header[24:28] == header[92:96]
    return (65536 if page == 1 else page) * int.from_bytes(header[28:32], 'big') if valid else 0
