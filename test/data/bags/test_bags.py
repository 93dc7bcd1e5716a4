"""Bags as sources of images: everything that is there is read, and what is wrong is said."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import recorded
from read_bags import KINDS, describe, read_all, refused
from recorded import PACKED, PERIOD, RAW, START, file_of, frame, rewrite_chunk, write_bag

from nav_monitor_ros.data.bags.bag import ImageTopic, open_bag
from nav_monitor_ros.data.sources import open_source

pytest.importorskip('rosbags')
zstd = pytest.importorskip('backports.zstd')
lz4_frame = pytest.importorskip('lz4.frame')

KITTI = Path(__file__).parents[4] / 'shared' / 'data' / 'bags'
needs_kitti = pytest.mark.skipif(not KITTI.is_dir(), reason='the KITTI bags are not here')



@pytest.mark.parametrize(('kind', 'compression'), KINDS)
def test_all_images_come_back_with_their_stamps_in_the_order_of_their_arrival(
    tmp_path, kind, compression
):
    images, damage = read_all(write_bag(tmp_path / 'b', kind, compression=compression))
    assert not damage
    expected = sorted(
        [(START + n * PERIOD, RAW, n) for n in range(12)]
        + [(START + n * PERIOD + 1, PACKED, n) for n in range(0, 12, 3)]
    )
    assert [(image.received_ns, image.topic) for image in images] == [e[:2] for e in expected]
    assert all(image.frame_id == 'camera' for image in images)
    for image, (_, topic, number) in zip(images, expected, strict=True):
        assert image.stamp_ns == START + number * PERIOD - 5_000_000
        assert image.type.endswith('CompressedImage' if topic == PACKED else '/Image')
        assert np.array_equal(image.decode().rgb(), frame(number))


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_topics_are_listed_and_chosen(tmp_path, kind):
    path = write_bag(tmp_path / 'b', kind)
    with open_bag(path) as bag:
        assert set(bag.image_topics) == {
            ImageTopic(RAW, 'sensor_msgs/msg/Image', 12),
            ImageTopic(PACKED, 'sensor_msgs/msg/CompressedImage', 4),
        }
        assert len(bag) == 16 and bag.damage == ''
    for topics in ([PACKED], [PACKED.removeprefix('/')]):
        images, _ = read_all(path, topics)
        assert [image.topic for image in images] == [PACKED] * 4
    assert len(read_all(path, [PACKED, RAW])[0]) == 16


@pytest.mark.parametrize(('kind', 'compression'), [('mcap', 'storage'), ('sqlite3', '')])
def test_any_image_can_be_asked_for(tmp_path, kind, compression):
    path = write_bag(tmp_path / 'b', kind, compression=compression, frames=30, chunks=6)
    with open_bag(path, [RAW]) as bag:
        for number in (29, 0, 17, 3, 17):
            assert np.array_equal(bag[number].decode().rgb(), frame(number))
        assert bag.received_ns.tolist() == [START + n * PERIOD for n in range(30)]
        with pytest.raises(IndexError):
            bag[30]


@pytest.mark.parametrize(('kind', 'compression'), KINDS)
def test_a_file_of_a_bag_is_a_bag(tmp_path, kind, compression):
    path = write_bag(tmp_path / 'b', kind, compression=compression)
    images, damage = read_all(file_of(path), [RAW])
    assert len(images) == 12 and not damage


def test_files_of_a_split_bag_are_read_one_after_the_other(tmp_path):
    first, second = (write_bag(tmp_path / name, 'mcap') for name in ('a', 'b'))
    file_of(second).rename(first / 'b.mcap')

    def add(description):
        description['relative_file_paths'].append('b.mcap')
        for topic in description['topics_with_message_count']:
            topic['message_count'] *= 2

    describe(first, add)
    images, damage = read_all(first, [RAW])
    assert len(images) == 24 and not damage
    assert [image.received_ns for image in images] == sorted(i.received_ns for i in images)


def test_file_names_of_the_old_format_begin_with_the_bags_own_folder(tmp_path):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    describe(path, lambda d: d.update(relative_file_paths=[f'b/{file_of(path).name}']))
    assert len(read_all(path, [RAW])[0]) == 12


def test_a_file_without_an_index_is_read(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', compression='storage', frames=30, chunks=3))
    path.write_bytes(recorded.unindexed(path.read_bytes()))
    images, damage = read_all(path, [RAW])
    assert not damage
    assert [image.received_ns for image in images] == [START + n * PERIOD for n in range(30)]


def test_messages_without_chunks_are_read(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    rewrite_chunk(path, lambda records: records)
    images, damage = read_all(path, [RAW])
    assert len(images) == 12 and not damage
    assert np.array_equal(images[7].decode().rgb(), frame(7))


def test_chunks_of_lz4_are_read(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    rewrite_chunk(path, lambda records: recorded.mcap_chunk(
        lz4_frame.compress(records), len(records), 'lz4'))
    assert len(read_all(path, [RAW])[0]) == 12


@pytest.mark.parametrize('right', [True, False])
def test_a_chunks_checksum_is_checked(tmp_path, right):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    rewrite_chunk(path, lambda records: recorded.mcap_chunk(
        records, len(records), '', zlib.crc32(records) ^ (0 if right else 1)))
    images, damage = read_all(path)
    assert (len(images), 'is corrupt' in damage) == ((16, False) if right else (0, True))


def test_a_file_that_breaks_off_between_a_chunks_indexes_loses_none_of_its_images(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', frames=30, chunks=3))
    whole = path.read_bytes()
    records = recorded.mcap_records(whole)
    last = max(place for place, (kind, _) in enumerate(records) if kind == 6)
    path.write_bytes(whole[:8] + b''.join(record for _, record in records[: last + 2]))
    images, damage = read_all(path)
    assert len(images) == 40 and 'is truncated' in damage


def test_messages_written_topic_by_topic_come_by_time(tmp_path):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    connection.execute('UPDATE messages SET timestamp = 2 * ? - timestamp', (START,))
    connection.commit()
    connection.close()
    times = [image.received_ns for image in read_all(path)[0]]
    assert len(times) == 16 and times == sorted(times)


def test_a_bag_leaves_no_file_open_and_nothing_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'scratch'))
    (tmp_path / 'scratch').mkdir()
    path = write_bag(tmp_path / 'b', 'mcap', compression='file')
    before = len(os.listdir('/proc/self/fd')) if sys.platform == 'linux' else 0
    with open_bag(path) as bag:
        assert len(bag) == 16 and len(list((tmp_path / 'scratch').iterdir())) == 1
    refused(path, ['/nothing'])
    assert not list((tmp_path / 'scratch').iterdir())
    if sys.platform == 'linux':
        assert len(os.listdir('/proc/self/fd')) == before




# Recorded by a car.


@needs_kitti
@pytest.mark.parametrize(('name', 'count'), [('mcap', 150), ('sqlite3', 60)])
def test_a_drive_is_read(name, count):
    topic = '/camera/color/image_raw/compressed'
    path = KITTI / f'kitti_drive_{name}'
    images, damage = read_all(path, [topic])
    assert len(images) == count and not damage
    assert {image.frame_id for image in images} == {'camera_color_optical_frame'}
    stamps = [image.stamp_ns for image in images]
    assert stamps == sorted(set(stamps))
    assert {image.decode().pixels.shape for image in images} == {(188, 621, 3)}
    source = open_source(f'{path}:{topic}')
    assert len(source) == count and source.image(7).std() > 20


@needs_kitti
def test_a_frame_of_a_drive_is_the_same_in_both_formats_raw_and_compressed():
    raw, packed = '/camera/color/image_raw', '/camera/color/image_raw/compressed'
    first = {}
    for name in ('mcap', 'sqlite3'):
        images, _ = read_all(KITTI / f'kitti_drive_{name}')
        by_topic = {
            topic: next(image for image in images if image.topic == topic)
            for topic in (raw, packed)
        }
        first[name] = {topic: image.decode().rgb() for topic, image in by_topic.items()}
    for topic in (raw, packed):
        assert np.array_equal(first['mcap'][topic], first['sqlite3'][topic])
