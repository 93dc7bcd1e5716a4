"""SQLite bags of recorders that were killed or still run: what SQLite itself would read."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import sqlite_recorder
from recorded import PERIOD, RAW, START, frame

from nav_monitor_ros.data.bags import bag, sqlite3_journals
from nav_monitor_ros.data.bags.bag import BagDamagedError, open_bag
from nav_monitor_ros.data.sources import open_source

pytest.importorskip('rosbags')

pytestmark = pytest.mark.once

RECORDER = Path(__file__).parents[2] / 'sqlite_recorder.py'
PAGE, HEADER, FRAME = 4096, 32, 24


def record(folder, journal, frames=60, batch=10, end='kill'):
    """Run a recorder of its own process to its end, and return its file."""
    done = subprocess.run(
        [sys.executable, RECORDER, folder, journal, str(frames), str(batch), end],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGKILL if end.startswith('kill') else 0), done.stderr
    return folder / 'drive_0.db3'


def state_of(folder):
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()
    }


def numbers(path):
    """Return the numbers of the frames read, each with its own pixels, and what is said."""
    found, damage = [], ''
    with open_bag(path, [RAW]) as bag:
        try:
            for image in bag:
                number = (image.received_ns - START) // PERIOD
                assert np.array_equal(image.decode().rgb(), frame(number))
                found.append(number)
        except BagDamagedError as error:
            damage = str(error)
    return found, damage


def by_sqlite(file, folder):
    """Return the number of messages that SQLite itself finds in a copy."""
    shutil.copytree(file.parent, folder)
    connection = sqlite3.connect(folder / file.name)
    try:
        return connection.execute('SELECT count(*) FROM messages').fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize(
    ('journal', 'batch', 'end'), [
        ('wal', 1, 'kill'), ('wal', 20, 'kill'), ('wal', 20, 'kill-inside'),
        ('delete', 20, 'kill-inside'), ('truncate', 20, 'kill-inside'), ('persist', 20, 'kill'),
        ('persist', 1, 'kill-inside'),
    ])
def test_a_killed_recorders_bag_is_read_as_sqlite_reads_it_and_stays_as_it_is(
    tmp_path, journal, end, batch
):
    file = record(tmp_path / 'b', journal, batch=batch, end=end)
    before = state_of(file.parent)
    for path in (file.parent, file):
        found, _ = numbers(path)
        assert found == list(range(60))
    assert state_of(file.parent) == before
    assert by_sqlite(file, tmp_path / 'copy') == 60


def test_a_log_without_its_shared_memory_in_a_folder_that_cannot_be_written_is_read():
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        file = record(top / 'b', 'wal')
        warm = record(top / 'warm', 'wal', frames=1, batch=1)
        file.with_name('drive_0.db3-shm').unlink()
        for each in file.parent.iterdir():
            each.chmod(0o444)
        file.parent.chmod(0o555)
        top.chmod(0o755)
        scratch = top / 'scratch'
        scratch.mkdir()
        scratch.chmod(0o777)
        code = (
            'import os, sys\n'
            'sys.path[:0] = sys.argv[1].split(":")\n'
            'import test_sqlite3_journals\n'
            'test_sqlite3_journals.numbers(sys.argv[2])\n'  # imports what it needs
            'if os.getuid() == 0:\n'  # who may do everything is somebody else
            '    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n'
            'assert not os.access(sys.argv[3], os.W_OK)\n'
            'print(test_sqlite3_journals.numbers(sys.argv[3]))\n'
        )
        try:
            done = subprocess.run(
                [sys.executable, '-c', code, f'{Path(__file__).parent}:{RECORDER.parent}', warm,
                 file.parent],
                capture_output=True, text=True, timeout=60,
                env={**os.environ, 'TMPDIR': str(scratch)})
            assert done.stdout.startswith(f'({list(range(60))}, '), done.stderr
            assert not list(scratch.iterdir())
            assert {each.name for each in file.parent.iterdir()} == {
                'drive_0.db3', 'drive_0.db3-wal'}
        finally:
            file.parent.chmod(0o755)


def test_a_log_beside_each_file_of_a_split_bag_is_read(tmp_path):
    first = record(tmp_path / 'a', 'wal', frames=30)
    second = record(tmp_path / 'b', 'wal', frames=20)
    for each in second.parent.iterdir():
        each.rename(first.parent / each.name.replace('drive_0', 'drive_1'))
    found, _ = numbers(first.parent)
    assert sorted(found) == sorted([*range(30), *range(20)])


def test_a_log_is_found_beside_what_a_link_points_to(tmp_path):
    file = record(tmp_path / 'b', 'wal')
    (tmp_path / 'latest.db3').symlink_to(file)
    assert numbers(tmp_path / 'latest.db3')[0] == list(range(60))


def test_a_source_and_its_damage(tmp_path, caplog):
    file = record(tmp_path / 'b', 'wal', end='kill-inside')
    assert len(open_source(f'{file}:{RAW}')) == 60
    assert 'write-ahead log' in caplog.text


# What is wrong with a log.


def test_nothing_is_said_where_the_whole_log_was_read(tmp_path):
    assert numbers(record(tmp_path / 'b', 'wal'))[1] == ''
    assert numbers(record(tmp_path / 'c', 'delete', end='kill-inside'))[1] == ''
    assert numbers(record(tmp_path / 'd', 'wal', end='close'))[1] == ''


@pytest.mark.parametrize(
    ('share', 'rest'), [(0.45, 0), (0.7, 0), (0.7, 10), (0.7, 600), (0.99, 24)])
def test_a_log_that_breaks_off_is_read_to_its_last_commit_and_said(tmp_path, share, rest):
    file = record(tmp_path / 'b', 'wal')
    log = file.with_name('drive_0.db3-wal')
    whole = log.read_bytes()
    # The frame of no commit is the last, so that something is missing.
    frames = int(share * (len(whole) - HEADER) / (PAGE + FRAME))
    while struct.unpack_from('>I', whole, HEADER + (frames - 1) * (PAGE + FRAME) + 4)[0]:
        frames -= 1
    log.write_bytes(whole[:HEADER + frames * (PAGE + FRAME) + rest])
    found, damage = numbers(file)
    assert found == list(range(by_sqlite(file, tmp_path / 'copy'))) and 0 < len(found) < 60
    assert 'write-ahead log is unfinished or damaged' in damage and '\n' not in damage


@pytest.mark.parametrize('place', [0, 18, 26, HEADER + 2, HEADER + 10, HEADER + 2000, -5000])
def test_a_damaged_log_is_read_as_far_as_sqlite_does_and_said(tmp_path, place):
    file = record(tmp_path / 'b', 'wal')
    log = file.with_name('drive_0.db3-wal')
    spoilt = bytearray(log.read_bytes())
    spoilt[place] ^= 0x55
    log.write_bytes(spoilt)
    try:
        expected = by_sqlite(file, tmp_path / 'copy')
    except sqlite3.OperationalError:  # the tables themselves were in the log
        expected = 0
    try:
        found, damage = numbers(file)
    except bag.NavMonitorError as error:
        found, damage = [], str(error)
    assert found == list(range(expected)) and expected < 60
    assert 'write-ahead log' in damage


@pytest.mark.parametrize('content', [b'\0' * 8192, b'x' * 20, b'not a log' * 1000])
def test_what_is_no_log_is_said(tmp_path, content):
    file = record(tmp_path / 'b', 'wal', end='close')
    file.with_name('drive_0.db3-wal').write_bytes(content)
    found, damage = numbers(file)
    assert found == list(range(60)) and 'none of it can be read' in damage


def test_frames_of_an_earlier_round_of_the_log_are_no_damage(tmp_path):
    file = tmp_path / 'b' / 'drive_0.db3'
    source = record(tmp_path / 'b', 'wal', frames=20, end='close')
    copy = tmp_path / 'c'
    connection = sqlite3.connect(source, isolation_level=None)
    connection.execute('PRAGMA journal_mode = wal')
    for number in range(20, 60):
        sqlite_recorder.insert(connection, number)
    connection.execute('PRAGMA wal_checkpoint(RESTART)')
    for number in range(60, 64):
        sqlite_recorder.insert(connection, number)
    shutil.copytree(file.parent, copy)
    connection.close()
    found, damage = numbers(copy / file.name)
    assert found == list(range(64)) and damage == ''


def test_a_truncated_file_beside_its_log_gives_no_pixels_that_were_never_recorded(tmp_path):
    file = tmp_path / 'b' / 'drive_0.db3'
    record(tmp_path / 'b', 'wal', frames=40, end='close')
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute('PRAGMA journal_mode = wal')
    for number in range(40, 60):
        sqlite_recorder.insert(connection, number)
    shutil.copytree(file.parent, tmp_path / 'c')
    connection.close()
    copy = tmp_path / 'c' / file.name
    os.truncate(copy, copy.stat().st_size * 2 // 3 // PAGE * PAGE)
    found, damage = numbers(copy)
    assert 10 < len(found) < 40 and 'is truncated' in damage and 'left out' in damage


def test_a_log_that_is_no_regular_file_is_not_opened(tmp_path):
    file = record(tmp_path / 'b', 'wal', end='close')
    log = file.with_name('drive_0.db3-wal')
    (tmp_path / 'secret').write_text('secret')
    log.symlink_to(tmp_path / 'secret')
    found, damage = numbers(file)
    assert found == list(range(60)) and 'not a regular file' in damage
    log.unlink()
    os.mkfifo(log)
    assert numbers(file)[0] == list(range(60))


def test_a_journal_that_names_another_file_leaves_that_file_alone(tmp_path):
    """SQLite opens and deletes the file that a rollback journal names as its super-journal."""
    file = record(tmp_path / 'b', 'delete', end='kill-inside')
    journal = file.with_name('drive_0.db3-journal')
    victim = tmp_path / 'victim'
    victim.write_bytes(b'dear\0')
    name = os.fsencode(victim)
    magic = b'\xd9\xd5\x05\xf9\x20\xa1\x63\xd7'
    end = struct.pack('>I', PAGE) + name + struct.pack('>II', len(name), sum(name)) + magic
    journal.write_bytes(journal.read_bytes() + end)
    with open_bag(file.parent) as bag:
        assert 'names another file' in bag.damage
    assert victim.read_bytes() == b'dear\0'


def test_without_room_for_a_copy_the_file_alone_is_read_and_the_remedy_said(
    tmp_path, monkeypatch
):
    file = record(tmp_path / 'b', 'wal', frames=40, end='close')
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute('PRAGMA journal_mode = wal')
    sqlite_recorder.insert(connection, 40)
    monkeypatch.setattr(
        shutil, 'disk_usage', lambda _: shutil._ntuple_diskusage(1000, 1000, 1000))
    try:
        found, damage = numbers(file)
    finally:
        connection.close()
    assert found == list(range(40))
    assert 'drive_0.db3-wal cannot be merged' in damage and 'TMPDIR' in damage


# A bag that is being recorded.


@pytest.mark.parametrize('journal', ['wal', 'delete', 'memory'])
def test_a_bag_that_is_being_recorded_is_read_without_disturbing_its_recorder(tmp_path, journal):
    folder = tmp_path / 'b'
    with subprocess.Popen(
        [sys.executable, RECORDER, folder, journal, '0', '5', 'run'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True
    ) as recorder:
        try:
            while int(recorder.stdout.readline()) < 50:
                pass
            for _ in range(5):
                committed = int(recorder.stdout.readline())
                found, damage = numbers(folder)
                assert found == list(range(len(found))) and len(found) >= committed
                assert 'being written to' in damage or 'is still running' in damage
            assert recorder.poll() is None
            last = int(recorder.stdout.readline())
            deadline = time.monotonic() + 20
            while int(recorder.stdout.readline()) < last + 50:
                assert time.monotonic() < deadline
        finally:
            recorder.kill()
            recorder.communicate()
    assert recorder.returncode == -signal.SIGKILL


def test_a_writer_in_this_process_is_not_deprived_of_its_file(tmp_path):
    file = record(tmp_path / 'b', 'wal', frames=20, end='close')
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute('PRAGMA journal_mode = wal')
    for number in range(20, 25):
        sqlite_recorder.insert(connection, number)
        assert numbers(file)[0] == list(range(number + 1))
    connection.close()
    assert numbers(file) == (list(range(25)), '')


def test_the_live_file_is_told_from_one_that_was_left(tmp_path):
    file = record(tmp_path / 'b', 'wal')
    assert not sqlite3_journals._locked(file, *sqlite3_journals._SHARED)
