"""MCAP files, indexed in one pass over their records, with or without their own index.

rosbags also reads MCAP, but only complete files; it decompresses without a limit and keeps all
overlapping chunks in memory at once. This module also reads recordings that a power cut ended, and
malicious files do no harm.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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
    unpack,
    unpack_message,
)
from nav_monitor_ros.errors import one_line

MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX = 2, 3, 4, 5, 6, 7
_PREFIX = struct.Struct('<BQ')  # header of a record: its kind and the number of bytes that follow
_MESSAGE_HEADER = struct.Struct('<HIQQ')  # channel, sequence, log time, publish time
_CHUNK_HEADER = struct.Struct('<QQQII')  # first, last time; unpacked bytes; CRC; length of a name
_TIMES = np.dtype([('time', '<u8'), ('offset', '<u8')])
_LARGEST_DESCRIPTION = 1 << 20  # bytes, largest schema or channel
_UNCHUNKED = -1  # offset of an entry whose message is a record of the file itself
_KEPT_CHUNKS = 2


@dataclass
class _Chunk:
    """A chunk with the message indexes found after it."""

    place: int
    complete: bool
    indexes: list[tuple[int, np.ndarray]] = field(default_factory=list)  # channel, _TIMES (M,)


class McapStorage(Storage):
    """An MCAP file; the two most recently read chunks stay unpacked in memory."""

    def __init__(self, path: Path, types: Collection[str] = IMAGE_TYPES) -> None:
        """Index a file.

        Args:
            path: Path of a file that begins with ``MAGIC``.
            types: Types of the messages to index.

        Raises:
            OSError: It cannot be read.
        """
        self.damage = ''
        self._types = types
        self._found: list[np.ndarray] = []
        self._count = 0
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, int] = {}  # number in the file -> index among the topics
        self._topics: dict[Topic, int] = {}  # -> its position
        self._wanted: set[int] = set()  # positions of these
        self._last = 0, 0  # position and end of the last message outside of chunks
        self._unpacked: OrderedDict[int, bytes] = OrderedDict()
        self._file = path.open('rb')
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._walk()
        except BaseException:
            self._file.close()
            raise
        self.topics = tuple(self._topics)
        self.entries = np.concatenate([np.zeros(0, ENTRY), *self._found])

    def read(self, entry: Any) -> bytes:
        """Return one serialised message."""
        place, offset = int(entry['place']), int(entry['offset'])
        if offset == _UNCHUNKED:
            kind, length = self._prefix(place)
            record = self._bytes(place + _PREFIX.size, length)
        else:
            content = self._content(place)
            kind, (start, stop) = next(_records(content, offset), (0, (0, 0)))
            record = content[start:stop]
        if kind != _MESSAGE or len(record) < _MESSAGE_HEADER.size:
            raise BagDamagedError(f'no message where the index at byte {place} points')
        channel = _MESSAGE_HEADER.unpack_from(record)[0]
        if self._channels.get(channel) != entry['topic']:
            raise BagDamagedError(f'the message does not match the index at byte {place}')
        return unpack_message(record[_MESSAGE_HEADER.size :])

    def close(self) -> None:
        """Close the file."""
        self._unpacked.clear()
        self._file.close()

    def _walk(self) -> None:
        """Visit the file's records up to the footer or to where the file is truncated."""
        place, chunk = len(MAGIC), None
        try:
            while True:
                kind, length = self._prefix(place)
                if kind != _INDEX and chunk is not None:
                    self._close(chunk)
                    chunk = None
                start, stop = place + _PREFIX.size, place + _PREFIX.size + length
                if kind == _FOOTER and stop + len(MAGIC) <= self._size:
                    return
                if kind == _CHUNK:
                    chunk = _Chunk(place, complete=stop <= self._size)
                if stop > self._size:
                    raise BagDamagedError(f'it is truncated in the record at byte {place}')
                if kind == _INDEX and chunk is not None:
                    chunk.indexes.append(self._read_index(start, length))
                elif kind == _MESSAGE:
                    self._note_message(place, start, length)
                elif kind in (_SCHEMA, _CHANNEL):
                    self._learn(kind, self._bytes(start, length, _LARGEST_DESCRIPTION))
                elif not kind:
                    self._distrust(place)
                    raise BagDamagedError(f'there is no record at byte {place}')
                place = stop
        except BagDamagedError as error:
            self._note_damage(str(error))
            if chunk is not None:
                # The indexes after the last chunk may be missing; its contents decide.
                chunk.complete = False
                with suppress(BagDamagedError):
                    self._close(chunk)

    def _prefix(self, place: int) -> tuple[int, int]:
        self._file.seek(place)
        prefix = self._file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            raise BagDamagedError('it is truncated: the end mark is missing')
        kind, length = _PREFIX.unpack(prefix)
        return kind, length

    def _bytes(self, start: int, length: int, largest: int = LARGEST) -> bytes:
        if length > largest:
            raise BagDamagedError(
                f'a part of {length} bytes at byte {start} is larger than the {largest} allowed'
            )
        self._file.seek(start)
        found = self._file.read(length)
        if len(found) < length:
            raise BagDamagedError(f'it is truncated in the record at byte {start}')
        return found

    def _note_damage(self, what: str) -> None:
        self.damage = self.damage or what

    def _learn(self, kind: int, record: bytes) -> None:
        """Register a schema or channel; the first one with a given number counts."""
        try:
            number = struct.unpack_from('<H', record)[0]
            if kind == _SCHEMA:
                self._schemas.setdefault(number, _texts(record, 2, 1)[0])
            elif number not in self._channels:
                schema = struct.unpack_from('<H', record, 2)[0]
                name, serialization = _texts(record, 4, 2)
                topic = Topic(name, self._schemas.get(schema, ''), serialization)
                self._channels[number] = self._topics.setdefault(topic, len(self._topics))
                if topic.holds(self._types):
                    self._wanted.add(self._channels[number])
        except (struct.error, UnicodeDecodeError) as error:
            self._note_damage(f'the description of a topic is malformed: {one_line(error)}')

    def _read_index(self, start: int, length: int) -> tuple[int, np.ndarray]:
        record = self._bytes(start, length)
        if len(record) < 6 or (len(record) - 6) % _TIMES.itemsize:
            raise BagDamagedError(f'the index at byte {start} is malformed')
        return struct.unpack_from('<H', record)[0], np.frombuffer(record, _TIMES, offset=6)

    def _close(self, chunk: _Chunk) -> None:
        """Add the messages of a chunk, from its indexes or its contents."""
        known = all(channel in self._channels for channel, _ in chunk.indexes)
        if chunk.complete and chunk.indexes and known:
            for channel, times in chunk.indexes:
                self._add(channel, times['time'], chunk.place, times['offset'])
            return
        try:
            content = self._content(chunk.place)
        except BagDamagedError as error:
            self._note_damage(str(error))
            return
        found: dict[int, array[int]] = {}  # channel -> time, offset, time, offset...
        last, end = 0, 0  # position of the last message, if it is the last record
        for kind, (start, stop) in _records(content):
            if kind == _MESSAGE and stop - start >= _MESSAGE_HEADER.size:
                channel, _, time, _ = _MESSAGE_HEADER.unpack_from(content, start)
                found.setdefault(channel, array('Q')).extend((time, start - _PREFIX.size))
            elif kind in (_SCHEMA, _CHANNEL) and stop - start <= _LARGEST_DESCRIPTION:
                self._learn(kind, content[start:stop])
            last, end = (start - _PREFIX.size, stop) if kind == _MESSAGE else (last, 0)
        # As in ``_distrust``: the last message may be padded with zeros.
        rest = content[end:] if end else b''
        if rest and not content[end - 1] and not rest.strip(b'\0'):
            for numbers in found.values():
                if numbers[-1] == last:
                    del numbers[-2:]
        for channel, numbers in found.items():
            times = np.frombuffer(numbers, _TIMES)
            self._add(channel, times['time'], chunk.place, times['offset'])

    def _note_message(self, place: int, start: int, length: int) -> None:
        if length < _MESSAGE_HEADER.size:
            raise BagDamagedError(f'the message at byte {place} is malformed')
        header = self._bytes(start, _MESSAGE_HEADER.size)
        channel, _, time, _ = _MESSAGE_HEADER.unpack(header)
        self._last = place, start + length
        self._add(channel, np.array([time], np.uint64), place, None)

    def _distrust(self, place: int) -> None:
        """Leave out the message before the position where zeros begin, if it ends in zeros itself.

        A power cut leaves zeros where the file had been extended but not yet written.
        """
        message, end = self._last
        found = bool(self._found) and bool((self._found[-1]['place'] == message).any())
        if end == place and found and self._bytes(end - 1, 1) == b'\0':
            self._found.pop()

    def _add(
        self, channel: int, times: np.ndarray, place: int, offsets: np.ndarray | None
    ) -> None:
        topic = self._channels.get(channel)
        if topic is None:
            self._note_damage(f'messages at byte {place} belong to no topic')
            return
        if topic not in self._wanted:
            return
        latest = np.iinfo(np.int64).max
        if (times > latest).any() or (offsets is not None and (offsets > latest).any()):
            self._note_damage(f'times or offsets of messages at byte {place} are impossible')
            return
        if self._count + len(times) > MOST:
            raise BagDamagedError(f'it has more than the {MOST} messages allowed')
        self._count += len(times)
        entries = np.zeros(len(times), ENTRY)
        entries['received_ns'], entries['topic'], entries['place'] = times, topic, place
        entries['offset'] = _UNCHUNKED if offsets is None else offsets
        self._found.append(entries)

    def _content(self, place: int) -> bytes:
        """Return the unpacked records of a chunk, as far as the file contains it."""
        if place in self._unpacked:
            self._unpacked.move_to_end(place)
            return self._unpacked[place]
        start = place + _PREFIX.size
        _, _, size, crc, name_length = _CHUNK_HEADER.unpack(
            self._bytes(start, _CHUNK_HEADER.size)
        )
        start += _CHUNK_HEADER.size
        name = self._bytes(start, name_length, 64)
        start += name_length
        length = int.from_bytes(self._bytes(start, 8), 'little')
        start += 8
        available = min(length, max(0, self._size - start))
        data = self._bytes(start, available)
        # A chunk that declares more than is allowed is not unpacked.
        if size > LARGEST:
            raise BagDamagedError(
                f'the chunk at byte {place} unpacks to {size} bytes, more than the {LARGEST} '
                'allowed'
            )
        while len(self._unpacked) >= _KEPT_CHUNKS:
            self._unpacked.popitem(last=False)
        content, complete = unpack(data, name.decode('utf-8', 'replace'), size)
        if available == length and complete:
            if len(content) != size or (crc and zlib.crc32(content) != crc):
                raise BagDamagedError(f'the chunk at byte {place} is corrupt')
        elif available == length:
            raise BagDamagedError(f'the chunk at byte {place} is corrupt')
        self._unpacked[place] = content
        return content


def _records(content: bytes, place: int = 0) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield kind, start and end of the complete records in a chunk, starting at ``place``."""
    while 0 <= place <= len(content) - _PREFIX.size:
        kind, length = _PREFIX.unpack_from(content, place)
        start = place + _PREFIX.size
        if start + length > len(content) or kind not in (_SCHEMA, _CHANNEL, _MESSAGE):
            return
        yield kind, (start, start + length)
        place = start + length


def _texts(record: bytes, place: int, count: int) -> list[str]:
    """Return consecutive length-prefixed strings, starting at ``place``."""
    texts = []
    for _ in range(count):
        length = struct.unpack_from('<I', record, place)[0]
        place += 4 + length
        if place > len(record) or length > LONGEST:
            raise struct.error(f'a string of {length} bytes')
        texts.append(record[place - length : place].decode())
    return texts
