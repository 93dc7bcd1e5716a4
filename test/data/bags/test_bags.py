"""Bags as sources of images: everything that is there is read, and what is wrong is said."""

from __future__ import annotations

import os
import sqlite3
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import recorded
import yaml
from recorded import IMU, PACKED, PERIOD, RAW, START, file_of, frame, write_bag

from nav_monitor_ros.data.bags import bag, storage
from nav_monitor_ros.data.bags.bag import BagDamagedError, ImageTopic, open_bag
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

pytest.importorskip('rosbags')
zstd = pytest.importorskip('backports.zstd')
lz4_frame = pytest.importorskip('lz4.frame')

KINDS = [
    ('mcap', ''), ('mcap', 'storage'), ('mcap', 'message'), ('mcap', 'file'),
    ('sqlite3', ''), ('sqlite3', 'message'), ('sqlite3', 'file'),
]
KITTI = Path(__file__).parents[4] / 'shared' / 'data' / 'bags'
needs_kitti = pytest.mark.skipif(not KITTI.is_dir(), reason='the KITTI bags are not here')


def read_all(path, topics=()):
    """Return the images that can be read, and what the bag says about the others."""
    images = []
    with open_bag(path, topics) as bag:
        try:
            images.extend(bag)
        except BagDamagedError as error:
            return images, one_line(error)
    return images, ''


def one_line(error):
    text = str(error)
    assert '\n' not in text and len(text) < 2000
    return text


def refused(path, topics=()):
    with pytest.raises(NavMonitorError) as caught:
        open_bag(path, topics)
    return one_line(caught.value)


def describe(bag, change):
    """Change the description in a bag's metadata."""
    path = bag / 'metadata.yaml'
    described = yaml.safe_load(path.read_text())
    change(described['rosbag2_bagfile_information'])
    path.write_text(yaml.safe_dump(described))


def pixels_of(images):
    return [image.decode().rgb() for image in images]


# What is there.


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
    describe(first, lambda d: d['relative_file_paths'].append('b.mcap'))
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


def rewritten(path, change):
    """Put something else in the place of the one chunk of an MCAP file, and drop the indexes."""
    whole = path.read_bytes()
    records = recorded.mcap_records(whole)
    (chunk,) = (record for kind, record in records if kind == 6)
    footer = recorded.mcap_record(2, bytes(20))
    # Behind the chunk's header, of 49 bytes where its compression has no name.
    path.write_bytes(whole[:8] + records[0][1] + change(chunk[49:]) + footer + whole[:8])


def test_messages_without_chunks_are_read(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    rewritten(path, lambda records: records)
    images, damage = read_all(path, [RAW])
    assert len(images) == 12 and not damage
    assert np.array_equal(images[7].decode().rgb(), frame(7))


def test_chunks_of_lz4_are_read(tmp_path):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    rewritten(path, lambda records: recorded.mcap_chunk(
        lz4_frame.compress(records), len(records), 'lz4'))
    assert len(read_all(path, [RAW])[0]) == 12


@pytest.mark.parametrize('right', [True, False])
def test_a_chunks_checksum_is_checked(tmp_path, right):
    path = file_of(write_bag(tmp_path / 'b', 'mcap'))
    rewritten(path, lambda records: recorded.mcap_chunk(
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
    assert len(images) == 40 and 'breaks off' in damage


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


# What is not there.


def test_places_without_a_bag_are_named(tmp_path):
    assert f'{tmp_path / "none"} does not exist' in refused(tmp_path / 'none')
    said = refused(tmp_path)
    assert 'has no metadata.yaml' in said and 'ros2 bag record' in said
    (tmp_path / 'empty.mcap').write_bytes(b'')
    assert 'it is empty' in refused(tmp_path / 'empty.mcap')
    (tmp_path / 'text.db3').write_bytes(b'not a data base at all')
    assert 'neither MCAP nor SQLite' in refused(tmp_path / 'text.db3')
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path / 'pipe.mcap')
        assert 'neither a folder nor a file' in refused(tmp_path / 'pipe.mcap')


def test_a_missing_topic_is_answered_with_those_that_hold_images(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap')
    said = refused(path, ['/front'])
    assert "topic '/front'" in said and f'{RAW} (12)' in said and f'{PACKED} (4)' in said
    assert IMU not in said


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_a_topic_of_another_type_is_named_with_its_type(tmp_path, kind):
    said = refused(write_bag(tmp_path / 'b', kind), [RAW, IMU])
    assert 'holds std_msgs/msg/String' in said and RAW in said


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'does not describe a bag'),
        ('[1, 2]', 'does not describe a bag'),
        ('rosbag2_bagfile_information: 5', 'does not describe a bag'),
        ('rosbag2_bagfile_information: {}', "lacks 'relative_file_paths'"),
        ('rosbag2_bagfile_information: {relative_file_paths: x}', 'no list of files'),
        ('rosbag2_bagfile_information: {relative_file_paths: []}', 'no list of files'),
        ('rosbag2_bagfile_information: {relative_file_paths: [[1]]}', 'no list of files'),
        ('rosbag2_bagfile_information: {relative_file_paths: [gone.mcap]}', 'gone.mcap'),
        ('rosbag2_bagfile_information: {relative_file_paths: [b.mcap], compression_format: lzma}',
         "compressed as 'lzma'"),
        ('a: [', 'not readable YAML'),
        ('!!python/object/apply:os.system ["true"]', 'not readable YAML'),
        ('a: &a [1]\nb: *a', 'refers to other places'),
        ('[' * 3000, 'nested'),
        ('- ' * 600_000, 'larger than'),
    ],
)
def test_metadata_that_describes_no_bag_is_refused(tmp_path, text, said):
    path = write_bag(tmp_path / 'b', 'mcap')
    (path / 'metadata.yaml').write_text(text)
    assert said in refused(path)


@pytest.mark.parametrize(
    'name', ['../secret.mcap', '/etc/passwd', 'b/../../secret.mcap', '..', 'a\0b', '']
)
def test_files_outside_the_bag_are_not_opened(tmp_path, name):
    path = write_bag(tmp_path / 'b', 'mcap')
    file_of(path).rename(tmp_path / 'secret.mcap')
    describe(path, lambda d: d.update(relative_file_paths=[name]))
    assert 'outside the bag' in refused(path)


@pytest.mark.parametrize(('kind', 'compression'), [('mcap', ''), ('sqlite3', 'file')])
def test_a_bag_whose_recorder_was_killed_is_read_and_said_to_lack_its_metadata(
    tmp_path, kind, compression
):
    path = write_bag(tmp_path / 'b', kind, compression=compression)
    (path / 'metadata.yaml').unlink()
    file = file_of(path)
    (path / 'notes.txt').write_text('not a file of the bag')
    images, damage = read_all(path, [RAW])
    assert len(images) == 12
    assert 'no metadata.yaml' in damage and 'ros2 bag reindex' in damage and '12 images' in damage
    file.rename(tmp_path / file.name)
    (path / file.name).symlink_to(tmp_path / file.name)
    assert 'leads out of the bag' in refused(path)


def test_links_out_of_the_bag_are_not_followed(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap')
    file = file_of(path)
    file.rename(tmp_path / 'secret.mcap')
    file.symlink_to(tmp_path / 'secret.mcap')
    assert 'leads out of the bag' in refused(path)
    file.unlink()
    file.symlink_to(file)
    assert 'leads out of the bag' in refused(path) or 'not there' in refused(path)
    (path / 'metadata.yaml').rename(tmp_path / 'elsewhere.yaml')
    (path / 'metadata.yaml').symlink_to(tmp_path / 'elsewhere.yaml')
    assert 'leads out of the bag' in refused(path)


def test_without_rosbags_the_remedy_is_said(tmp_path, monkeypatch):
    path = write_bag(tmp_path / 'b', 'mcap')
    bag._typestore.cache_clear()
    monkeypatch.setitem(sys.modules, 'rosbags.typesys', None)
    assert "pip install 'nav_monitor_ros[bags]'" in refused(path)
    bag._typestore.cache_clear()


# What is damaged.


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
            assert share < 0.1 and 'breaks off' in str(error)
            images, damage = [], 'breaks off'
        assert 'breaks off' in damage
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
    assert 5 < len(images) < 40 and 'breaks off' in damage and f'{len(images)} images' in damage


@pytest.mark.parametrize('chunked', [True, False])
@pytest.mark.parametrize('beyond', [40, 5000, 10**6])
def test_no_image_is_completed_by_the_zeros_that_a_power_cut_leaves(tmp_path, chunked, beyond):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', frames=40))
    if not chunked:
        rewritten(path, lambda records: records)
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
    assert 11 <= len(images) <= 13 and 'is no sensor_msgs/msg/Image' in damage


# What somebody made to do harm.


def bomb(size):
    """Return zstd data of a few kilobytes that unpacks to very much."""
    packer = zstd.ZstdCompressor()
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b''.join([*parts, packer.flush()])


@pytest.fixture
def small_bounds(monkeypatch):
    """Lower the bounds, so that a test needs no gigabytes to pass them."""
    for module in (bag.storage_mcap, bag.storage_sqlite3):
        monkeypatch.setattr(module, 'LARGEST', 4 << 20)
    monkeypatch.setattr(storage.unpack, '__defaults__', (4 << 20,))
    monkeypatch.setattr(bag, 'LARGEST_FILES', 4 << 20)


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
    assert 'more than there is room for' in refused(path)


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
    assert 'no table messages as bags have it' in refused(path)


# As a source.


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_a_topic_of_a_bag_is_a_source_without_labels(tmp_path, kind):
    path = write_bag(tmp_path / 'b', kind)
    source = open_source(f'{path}:{RAW}')
    assert len(source) == 12 and source.own_labels is None
    assert np.array_equal(source.image(5), frame(5))
    assert source.received_ns.tolist() == [START + n * PERIOD for n in range(12)]
    few = open_source(f'{path}:{PACKED}?limit=2&transform=invert')
    assert len(few) == len(few.received_ns) == 2
    number = (int(few.received_ns[1]) - START) // PERIOD
    assert np.array_equal(few.image(1), 255 - frame(number))
    assert len(open_source(f'{file_of(path)}:{RAW}')) == 12


def test_a_source_of_a_bag_needs_its_topic(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap')
    for spec in (path, file_of(path)):
        with pytest.raises(NavMonitorError, match=f'name the topic .* one of: .*{RAW}'):
            open_source(str(spec))
    for spec, said in (
        (f'{path}:/front', 'is not there'), (f'{path}:{RAW}?split=train', 'no option'),
        (f'{tmp_path / "none"}:{RAW}', 'does not exist'), (f'{path}:{RAW}?classes=1', 'no labels'),
    ):
        with pytest.raises(NavMonitorError, match=said):
            open_source(spec)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path):
    folder = tmp_path / 'a:b'
    folder.mkdir()
    with pytest.raises(NavMonitorError, match='holds no images'):
        open_source(str(folder))
    path = write_bag(folder / 'bag', 'mcap')
    assert len(open_source(f'{path}:{RAW}')) == 12


def test_a_folder_of_classes_may_have_metadata_of_its_own(tmp_path):
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat' / '0.png').write_bytes(cv2.imencode('.png', frame(0))[1].tobytes())
    (tmp_path / 'metadata.yaml').write_text('author: somebody')
    assert open_source(str(tmp_path)).class_names == ('cat',)


def test_a_damaged_bag_is_a_source_of_what_is_left_with_a_warning(tmp_path, caplog):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', frames=40))
    path.write_bytes(path.read_bytes()[:12000])
    source = open_source(f'{path}:{RAW}')
    assert 0 < len(source) < 40
    assert 'is damaged' in caplog.text and f'{len(source)} images are left' in caplog.text


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    rows = connection.execute('SELECT id, data FROM messages WHERE topic_id = 1').fetchall()
    for row, data in rows:
        connection.execute(
            'UPDATE messages SET data = ? WHERE id = ?', (data.replace(b'rgb8', b'rgb9'), row)
        )
    connection.commit()
    connection.close()
    with pytest.raises(NavMonitorError, match=rf'{RAW}, image 3 .*rgb9'):
        open_source(f'{path}:{RAW}').image(3)


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
