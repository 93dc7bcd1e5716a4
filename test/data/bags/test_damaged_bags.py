"""Damaged bags: what is left is read, and the damage is told."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from read_bags import describe, pixels_of, read_all, refused
from recorded import PERIOD, RAW, START, file_of, frame, rewrite_chunk, write_bag

from nav_monitor_ros.data.bags import storage
from nav_monitor_ros.errors import NavMonitorError

pytest.importorskip('rosbags')
zstd = pytest.importorskip('backports.zstd')
lz4_frame = pytest.importorskip('lz4.frame')


@pytest.mark.parametrize('compression', ['', 'storage'])
def test_an_mcap_file_that_breaks_off_is_read_to_its_end(tmp_path, compression):
    path = file_of(
        write_bag(tmp_path / 'b', 'mcap', compression=compression, frames=60, chunks=6)
    )
    whole, lengths = path.read_bytes(), []
    for share in (0.05, 0.3, 0.55, 0.8, 0.97, 0.9999):
        path.write_bytes(whole[: int(share * len(whole))])
        try:
            images, damage = read_all(path, [RAW])
        except NavMonitorError as error:
            assert share < 0.1 and 'is truncated' in str(error)
            images, damage = [], 'is truncated'
        assert 'is truncated' in damage
        assert [i.received_ns for i in images] == [
            START + n * PERIOD for n in range(len(images))
        ]
        assert all(np.array_equal(p, frame(n)) for n, p in enumerate(pixels_of(images)))
        lengths.append(len(images))
    assert lengths == sorted(lengths) and lengths[-1] == 60 and 5 < lengths[1] < 40


def test_half_a_chunk_is_read(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', frames=40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    images, damage = read_all(path, [RAW])
    assert 5 < len(images) < 40 and 'is truncated' in damage and f'{len(images)} images' in damage


@pytest.mark.parametrize('chunked', [True, False])
@pytest.mark.parametrize('beyond', [40, 5000, 10**6])
def test_no_image_is_completed_by_the_zeros_that_a_power_cut_leaves(tmp_path, chunked, beyond):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', frames=40))
    if not chunked:
        rewrite_chunk(path, lambda records: records)
    whole = path.read_bytes()
    cut = whole.index(frame(20).tobytes()) + 500  # within an image
    path.write_bytes(whole[:cut] + bytes(beyond))
    images, damage = read_all(path, [RAW])
    assert len(images) == 20 and damage
    assert all(np.array_equal(p, frame(n)) for n, p in enumerate(pixels_of(images)))


def test_an_sqlite3_file_that_breaks_off_is_read_to_its_end(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'sqlite3', frames=300))
    whole, lengths = path.read_bytes(), []
    for share in (0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        images, damage = read_all(path, [RAW])
        assert 'damaged' in damage and 'images were read' in damage
        assert all(
            np.array_equal(image.decode().rgb(), frame((image.received_ns - START) // PERIOD))
            for image in images
        )
        lengths.append(len(images))
    assert lengths == sorted(lengths) and 20 < lengths[0] < 200 < lengths[-1]


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_a_compressed_file_that_breaks_off_is_read_to_its_end(tmp_path, kind):
    path = file_of(write_bag(tmp_path / 'b', kind, compression='file', frames=300, chunks=4))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    images, damage = read_all(path, [RAW])
    assert 20 < len(images) < 300 and damage


def test_a_corrupt_chunk_costs_its_own_images_only(tmp_path):
    path = file_of(
        write_bag(tmp_path / 'b', 'mcap', compression='storage', frames=60, chunks=6)
    )
    before, magic, after = path.read_bytes().rpartition(storage.ZSTD_MAGIC)
    path.write_bytes(before + bytes(len(magic)) + after)
    images, damage = read_all(path, [RAW])
    assert 30 <= len(images) < 60 and 'corrupt' in damage
    assert all(
        np.array_equal(image.decode().rgb(), frame((image.received_ns - START) // PERIOD))
        for image in images
    )


def test_a_missing_file_of_several_costs_its_own_images_only(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap')
    describe(path, lambda d: d['relative_file_paths'].append('gone.mcap'))
    images, damage = read_all(path, [RAW])
    assert len(images) == 12 and 'gone.mcap' in damage


def test_damage_is_said_where_a_topic_is_missing(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    path.write_bytes(path.read_bytes()[:-9])
    assert 'the bag is damaged' in refused(path, ['/front'])


def test_messages_of_another_shape_are_damage(tmp_path):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    connection.execute("UPDATE messages SET data = x'00010000ffffffff' WHERE id = 1")
    connection.execute("UPDATE messages SET data = 'text' WHERE id = 4")
    connection.execute("UPDATE messages SET data = x'28b52ffd00' WHERE id = 6")
    connection.execute("UPDATE messages SET timestamp = 'noon' WHERE id = 8")
    connection.commit()
    connection.close()
    images, damage = read_all(path)
    assert 11 <= len(images) <= 13 and 'is not a sensor_msgs/msg/Image' in damage


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_a_truncated_bag_tells_how_many_messages_are_gone(tmp_path, kind):
    path = write_bag(tmp_path / 'b', kind, frames=40)
    file = file_of(path)
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(frame(20).tobytes()) + 500])
    images, damage = read_all(path, [RAW])
    assert 0 < len(images) <= 20
    assert f'says 40 messages of {RAW}, and the files hold {len(images)}' in damage
