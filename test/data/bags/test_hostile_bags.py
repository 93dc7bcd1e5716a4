"""Bags that somebody made to do harm."""

from __future__ import annotations

import sqlite3
import struct

import pytest
import recorded
from read_bags import read_all, refused
from recorded import RAW, file_of, write_bag

from nav_monitor_ros.data.bags import open_storage, storage, storage_mcap, storage_sqlite3

pytest.importorskip('rosbags')
zstd = pytest.importorskip('backports.zstd')
lz4_frame = pytest.importorskip('lz4.frame')


def bomb(size):
    """Return zstd data of a few kilobytes that unpacks to very much."""
    packer = zstd.ZstdCompressor()
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b''.join([*parts, packer.flush()])


@pytest.fixture
def small_bounds(monkeypatch):
    """Lower the bounds, so that a test needs no gigabytes to pass them."""
    for module in (storage_mcap, storage_sqlite3):
        monkeypatch.setattr(module, 'LARGEST', 4 << 20)
    monkeypatch.setattr(storage.unpack, '__defaults__', (4 << 20,))
    monkeypatch.setattr(open_storage, 'LARGEST_FILES', 4 << 20)


@pytest.mark.parametrize('claimed', [1000, 3 << 20, 64 << 20, 1 << 62])
def test_a_chunk_that_unpacks_to_too_much_is_refused(tmp_path, small_bounds, claimed):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    whole = path.read_bytes()
    packed = recorded.mcap_chunk(bomb(64 << 20), claimed, 'zstd')
    start = 8 + 9 + struct.unpack_from('<Q', whole, 9)[0]
    path.write_bytes(whole[:start] + packed + whole[start:])
    images, damage = read_all(path, [RAW])
    assert len(images) == 12 and 'allowed' in damage


def test_a_message_that_unpacks_to_too_much_is_refused(tmp_path, small_bounds):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    connection.execute('UPDATE messages SET data = ? WHERE id = 1', (bomb(64 << 20),))
    connection.commit()
    connection.close()
    images, damage = read_all(path, [RAW])
    assert len(images) == 11 and 'allowed' in damage


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, small_bounds):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', compression='file'))
    path.write_bytes(bomb(64 << 20))
    assert 'exceeds the available space' in refused(path)


@pytest.mark.parametrize(
    'harm',
    [
        'ALTER TABLE messages ADD COLUMN x BLOB GENERATED ALWAYS AS (zeroblob(1000000000))',
        'CREATE VIEW schema AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) '
        'SELECT i FROM n',
    ],
)
def test_what_a_bag_has_no_need_of_is_not_run(tmp_path, harm):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    connection.execute('DROP TABLE schema')
    connection.execute(harm)
    connection.commit()
    connection.close()
    assert len(read_all(path, [RAW])[0]) == 12


@pytest.mark.parametrize(
    'harm',
    [
        'CREATE VIEW messages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) '
        'SELECT i AS id, 1 AS topic_id, 1 AS timestamp, zeroblob(1000000000) AS data FROM n',
        'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, '
        'data BLOB GENERATED ALWAYS AS (zeroblob(1000000000)))',
        'CREATE TABLE messages(id INTEGER PRIMARY KEY)',
    ],
)
def test_tables_that_are_programs_are_refused(tmp_path, harm):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    connection.execute('DROP TABLE messages')
    connection.execute(harm)
    connection.commit()
    connection.close()
    assert 'no table messages with the columns of a bag' in refused(path)
