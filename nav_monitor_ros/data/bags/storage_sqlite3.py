"""SQLite files of a bag: read row by row, as far as they go."""

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
_MOST_IN_A_PAGE = 64  # messages, of a hundred bytes or more, in pages of 4096
_STEPS = 100_000  # of SQLite's virtual machine, between two looks at what is left of the budget
# What SQLite raises, and Python where a value does not fit.
_UNREADABLE = (sqlite3.Error, OverflowError, UnicodeDecodeError, MemoryError)


class Sqlite3Storage(Storage):
    """A ``.db3`` file, opened for reading only; neither journal nor lock are made or looked for."""

    def __init__(self, path: Path, types: Collection[str] = IMAGE_TYPES) -> None:
        """Index a file.

        Args:
            path: That begins with ``MAGIC``; what lies beside it is merged (``sqlite3_journals``).
            types: Of the messages that are wanted.

        Raises:
            OSError: It cannot be read.
            BagDamagedError: It holds no bag.
        """
        self._types = types
        self._size = os.stat(path).st_size
        self.damage = 'it breaks off' if _promises(path) > self._size else ''
        # Pages that point to each other in circles would keep SQLite busy for ever.
        self._budget = _STEPS + self._size
        # Frames are read by whichever thread asks; one at a time, by the caller's care.
        self._connection = sqlite3.connect(
            f'{path.resolve().as_uri()}?mode=ro&immutable=1', uri=True, check_same_thread=False
        )
        try:
            self._prepare()
            self._numbers: dict[int, int] = {}  # the file's number -> place among the topics
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
        """Check what the file is, and keep it from making SQLite do anything but read tables."""
        connection = self._connection
        # A file that was cut off is refused whole otherwise; nothing can be written.
        connection.execute('PRAGMA writable_schema = ON')
        connection.execute('PRAGMA trusted_schema = OFF')
        connection.execute('PRAGMA cell_size_check = ON')
        connection.set_progress_handler(self._spend, _STEPS)
        for table, columns in _COLUMNS.items():
            # Views and virtual tables, which have no root page, would be programs.
            found = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
            ).fetchall()
            listed = connection.execute(f'PRAGMA table_xinfo({table})').fetchall()
            stored = {column[1] for column in listed if not column[6]}  # generated ones are not
            if len(found) != 1 or not found[0][0] or not columns <= stored:
                raise BagDamagedError(f'it has no table {table} as bags have it')

    def _data(self, place: int) -> bytes:
        """Return what the row of a message holds."""
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
        """Leave out the messages that SQLite would complete with zeros.

        It does so where a file breaks off within a page, which is the last one. Messages of which
        a part may lie there, the last ones written, have to end in something else.
        """
        first = max(0, len(entries) - _MOST_IN_A_PAGE)
        kept = np.ones(len(entries), bool)
        for number in range(first, len(entries)):
            with suppress(BagDamagedError):
                kept[number] = not self._data(int(entries[number]['place'])).endswith(b'\0')
        return entries[kept]

    def _spend(self) -> bool:
        """Return whether SQLite has to stop."""
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
        """List the messages by what stands before their data, as far as the table goes."""
        wanted = {
            number: place for number, place in self._numbers.items()
            if self.topics[place].holds(self._types)
        }
        entries: np.ndarray = np.zeros(1024, ENTRY)
        count = 0
        try:
            # By row number, the order in which the file was written, and not through an index,
            # which lies at the end of the file.
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
    """Return how many bytes the file should have, by its header; 0 where that does not say."""
    with path.open('rb') as stream:
        header = stream.read(100)
    # Page size, and pages where the number was written with the last change of the file.
    page = int.from_bytes(header[16:18], 'big')
    valid = len(header) == 100 and header[24:28] == header[92:96]
    return (65536 if page == 1 else page) * int.from_bytes(header[28:32], 'big') if valid else 0
