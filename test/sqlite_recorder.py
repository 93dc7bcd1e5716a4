"""Recorder that writes frames into an SQLite bag until it ends or is killed.

    python sqlite_recorder.py FOLDER JOURNAL FRAMES BATCH END

JOURNAL is SQLite's journal mode. Each transaction has BATCH frames. END is the action after FRAMES
frames: ``kill`` (the process kills itself without closing the bag), ``kill-inside`` (the same
during a transaction that is partly in the file), ``close``, or ``run`` (continue until killed).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import recorded

TABLES = (
    'CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL)',
    'CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER, metadata TEXT)',
    'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, '
    'serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)',
    'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER '
    'NOT NULL, data BLOB NOT NULL)',
    'CREATE INDEX timestamp_idx ON messages (timestamp ASC)',
)


def message(number: int) -> bytes:
    """Return ``recorded.frame(number)`` as a serialised image."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    stamp = types['builtin_interfaces/msg/Time'](
        *divmod(recorded.START + number * recorded.PERIOD, 10**9))
    image = types['sensor_msgs/msg/Image'](
        types['std_msgs/msg/Header'](stamp, 'camera'), recorded.SIDE, recorded.SIDE, 'rgb8', 0,
        3 * recorded.SIDE, recorded.frame(number).reshape(-1))
    return bytes(store.serialize_cdr(image, 'sensor_msgs/msg/Image'))


def insert(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(
        'INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)',
        (recorded.START + number * recorded.PERIOD, message(number)))


def main(folder: str, journal: str, frames: str, batch: str, end: str) -> None:
    Path(folder).mkdir(exist_ok=True)
    connection = sqlite3.connect(Path(folder) / 'drive_0.db3', isolation_level=None)
    connection.execute(f'PRAGMA journal_mode = {journal}')
    for table in TABLES:
        connection.execute(table)
    connection.execute(
        'INSERT INTO topics VALUES (1, ?, ?, ?, ?)',
        (recorded.RAW, 'sensor_msgs/msg/Image', 'cdr', ''))
    number = 0
    while number < int(frames) or end == 'run':
        connection.execute('BEGIN')
        for _ in range(int(batch)):
            insert(connection, number)
            number += 1
        connection.execute('COMMIT')
        print(number, flush=True)
        if end == 'run':
            time.sleep(0.01)
    if end == 'kill-inside':
        connection.execute('PRAGMA cache_size = 1')
        connection.execute('BEGIN')
        connection.execute('UPDATE messages SET data = zeroblob(length(data))')
        insert(connection, number)
    if end.startswith('kill'):
        os.kill(os.getpid(), signal.SIGKILL)
    connection.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
