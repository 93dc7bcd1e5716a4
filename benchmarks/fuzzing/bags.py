"""Fuzzing of bags."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fuzzing.bundles import _plain, _spoil_values, _yaml
from fuzzing.images import MAX_PIXELS, _check_image
from fuzzing.target import LARGEST_CASE, NUMBERS, Finding, Target, outcome_of, spoil_bytes
from fuzzing.watching import watched
from nav_monitor_ros.perception.decoded_image import ImageError


@dataclass(frozen=True)
class BagCase:
    """Two files of a bag."""

    name: str
    content: bytes
    metadata: bytes


class BagTarget(Target):
    """Target: ``open_bag``, all images of the bag, and their pixels."""

    most_memory = 700 << 20  # two unpacked chunks of the largest size

    def __init__(self, folder: Path) -> None:
        """Write bags of every kind."""
        super().__init__(folder)
        import recorded
        from backports import zstd

        from nav_monitor_ros.data.bags.bag import BagDamagedError, open_bag

        self._recorded, self._zstd = recorded, zstd
        self._open, self._damaged = open_bag, BagDamagedError
        self._bases = []
        for storage, compression in (
            ('mcap', ''), ('mcap', 'storage'), ('mcap', 'message'), ('sqlite3', ''),
            ('sqlite3', 'message'), ('mcap', 'file'),
        ):
            made = recorded.write_bag(
                folder / f'{storage}-{compression}', storage, compression=compression, frames=6)
            file = recorded.file_of(made)
            self._bases.append(
                BagCase(file.name, file.read_bytes(), (made / 'metadata.yaml').read_bytes()))
        whole = self._bases[0]
        self._bases.append(
            BagCase(whole.name, recorded.unindexed(whole.content), whole.metadata))
        self._place = folder / 'bag'
        self._bomb = self._make_bomb(300 << 20)
        # Modules are loaded with the first image, which must not count as an input's effect.
        with open_bag(folder / 'mcap-') as bag:
            for image in bag:
                image.decode()

    def _make_bomb(self, size: int) -> bytes:
        packer = self._zstd.ZstdCompressor()
        parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
        return b''.join([*parts, packer.flush()])

    def fresh(self, chance: random.Random) -> BagCase:
        """Return an unchanged bag."""
        return chance.choice(self._bases)

    def spoiled(self, case: BagCase, chance: random.Random) -> BagCase:
        """Change the metadata, records, rows or arbitrary bytes."""
        way = chance.randrange(10)
        if way == 0:
            return BagCase(case.name, case.content, self._spoil_metadata(case.metadata, chance))
        if way <= 5 and case.content.startswith(b'\x89MCAP'):
            return BagCase(case.name, self._spoil_mcap(case.content, chance), case.metadata)
        if way <= 5 and case.content.startswith(b'SQLite'):
            return BagCase(case.name, self._spoil_sqlite3(case.content, chance), case.metadata)
        other = chance.choice(self._bases).content
        return BagCase(case.name, spoil_bytes(case.content, chance, other), case.metadata)

    def _spoil_metadata(self, text: bytes, chance: random.Random) -> bytes:
        described = _plain(text)
        if not isinstance(described, dict) or chance.random() < 0.3:
            return spoil_bytes(text, chance, text)
        information = described.get('rosbag2_bagfile_information')
        if isinstance(information, dict) and chance.random() < 0.4:
            name = chance.choice(
                ('../secret', '/etc/passwd', 'a/../../b', '', '.', '..', 'x\0y', 5, 'b' * 5000))
            information['relative_file_paths'] = [name, *(['x'] * chance.choice((0, 1, 20_000)))]
        else:
            _spoil_values(described, chance)
        return _yaml(described)

    def _spoil_mcap(self, content: bytes, chance: random.Random) -> bytes:
        """Change, repeat, move or add a record, at the top level or in an uncompressed chunk."""
        records, place = [], 8
        while place + 9 <= len(content) - 8:
            length = int.from_bytes(content[place + 1 : place + 9], 'little')
            records.append(content[place : place + 9 + length])
            place += 9 + length
        if not records:
            return spoil_bytes(content, chance, content)
        number = chance.randrange(len(records))
        way = chance.randrange(8)
        if way == 0:
            records[number] = spoil_bytes(records[number], chance, records[number])
        elif way == 1:
            records[number] = (
                records[number][:9] + spoil_bytes(records[number][9:], chance, records[number]))
        elif way == 2:
            length = chance.choice(NUMBERS)
            records[number] = records[number][:1] + struct.pack('<Q', length) + records[number][9:]
        elif way == 3:
            records[number : number + 1] = [records[number]] * chance.choice((0, 2, 30))
        elif way == 4:
            records.insert(chance.randrange(len(records)), records.pop(number))
        elif way == 5:
            size = chance.choice((300 << 20, 100, 1 << 20, *NUMBERS)) % (1 << 64)
            packed = self._bomb if chance.random() < 0.2 else self._zstd.compress(bytes(1000))
            kind = chance.choice(('zstd', 'zstd', 'lz4', '', 'brotli', 'z' * 100))
            records.insert(number, self._recorded.mcap_chunk(packed, size, kind))
        elif way == 6:
            kind = chance.choice((1, 2, 3, 4, 5, 6, 7, 15, 200))
            records.insert(number, self._recorded.mcap_record(kind, chance.randbytes(
                chance.choice((0, 1, 6, 22, 100)))))
        else:
            inner = bytearray(records[number])
            for _ in range(chance.randint(1, 4)):
                if len(inner) > 60:
                    at = chance.randrange(49, len(inner) - 8)
                    inner[at : at + 8] = struct.pack('<Q', chance.choice(NUMBERS))
            records[number] = bytes(inner)
        return content[:8] + b''.join(records) + content[place:]

    def _spoil_sqlite3(self, content: bytes, chance: random.Random) -> bytes:
        """Run an SQL statement that a recorder would not run."""
        scratch = self.folder / 'scratch.db3'
        scratch.write_bytes(content)
        statements = (
            'UPDATE messages SET data = zeroblob(30000000) WHERE id = 1',
            'UPDATE messages SET data = NULL', "UPDATE messages SET data = 'text'",
            'UPDATE messages SET timestamp = 9e99', 'UPDATE messages SET timestamp = -5',
            "UPDATE messages SET timestamp = 'x' WHERE id = 2", 'UPDATE messages SET topic_id = 99',
            'DELETE FROM topics', 'DELETE FROM messages', 'DROP TABLE messages',
            'UPDATE topics SET name = NULL', 'UPDATE topics SET name = randomblob(3000)',
            "UPDATE topics SET type = 'sensor_msgs/msg/Image'",
            "UPDATE topics SET type = 'sensor_msgs/msg/CompressedImage'",
            "UPDATE topics SET serialization_format = 'json'",
            'UPDATE messages SET data = randomblob(500)',
            'UPDATE messages SET data = substr(data, 1, 100)',
            'UPDATE messages SET data = data || data',
            'ALTER TABLE messages RENAME TO m; CREATE VIEW messages AS SELECT * FROM m',
            'ALTER TABLE topics RENAME TO t; CREATE VIEW topics AS SELECT * FROM t',
            'DROP TABLE messages; CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, data)',
            'ALTER TABLE messages ADD COLUMN g GENERATED ALWAYS AS (zeroblob(900000000))',
            'CREATE INDEX i ON messages (data)', 'PRAGMA user_version = 7', 'VACUUM',
            'INSERT INTO topics SELECT id + 1000, name, type, serialization_format, '
            'offered_qos_profiles, type_description_hash FROM topics',
            'INSERT INTO messages (topic_id, timestamp, data) SELECT a.topic_id, b.id, b.data '
            'FROM messages a, messages b LIMIT 1000',
        )
        connection = sqlite3.connect(scratch)
        try:
            connection.executescript(chance.choice(statements))
            connection.commit()
        except sqlite3.Error:  # spoiled before
            pass
        finally:
            connection.close()
        with scratch.open('rb') as stream:
            changed = stream.read(LARGEST_CASE)
        return changed if chance.random() < 0.7 else spoil_bytes(changed, chance, content)

    def feed(self, case: BagCase) -> object:
        """Write the bag and read all its images."""
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        (self._place / case.name).write_bytes(case.content)
        (self._place / 'metadata.yaml').write_bytes(case.metadata)
        read = refused = 0
        with watched(self.folder, tempfile.gettempdir()), self._open(self._place) as bag:
            damage = ''
            try:
                for number, image in enumerate(bag):
                    if number == 300:
                        break
                    read += 1
                    try:
                        _check_image(image.decode(max_pixels=MAX_PIXELS))
                    except ImageError:
                        refused += 1
            except self._damaged as error:
                damage = outcome_of(error)
            if not damage and bag.damage and read < 300:
                raise Finding('damage was not told')
        return damage, read > 0, refused > 0
