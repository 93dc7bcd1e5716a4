"""What a bag's folder and its metadata say, held against what is there."""

from __future__ import annotations

import os
import sys

import pytest
from read_bags import describe, read_all, refused
from recorded import IMU, PACKED, RAW, file_of, write_bag

from nav_monitor_ros.data.bags import bag

pytest.importorskip('rosbags')
zstd = pytest.importorskip('backports.zstd')
lz4_frame = pytest.importorskip('lz4.frame')


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
        ('rosbag2_bagfile_information: {relative_file_paths: x}', 'not a list of files'),
        ('rosbag2_bagfile_information: {relative_file_paths: []}', 'not a list of files'),
        ('rosbag2_bagfile_information: {relative_file_paths: [[1]]}', 'not a list of files'),
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
    assert 'leads out of the bag' in refused(path) or 'does not exist' in refused(path)
    (path / 'metadata.yaml').rename(tmp_path / 'elsewhere.yaml')
    (path / 'metadata.yaml').symlink_to(tmp_path / 'elsewhere.yaml')
    assert 'leads out of the bag' in refused(path)


def test_without_rosbags_the_remedy_is_said(tmp_path, monkeypatch):
    path = write_bag(tmp_path / 'b', 'mcap')
    bag._typestore.cache_clear()
    monkeypatch.setitem(sys.modules, 'rosbags.typesys', None)
    assert "pip install 'nav_monitor_ros[bags]'" in refused(path)
    bag._typestore.cache_clear()


# What the metadata say otherwise.


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_files_that_the_metadata_do_not_list_are_told(tmp_path, kind):
    path = write_bag(tmp_path / 'b', kind)
    other = file_of(write_bag(tmp_path / 'other', kind))
    for name in ('later', 'latest'):
        (path / f'{name}{other.suffix}').write_bytes(other.read_bytes())
    images, damage = read_all(path, [RAW])
    assert len(images) == 12
    assert 'metadata.yaml does not list late' in damage and 'and 1 more' in damage
    assert 'ros2 bag reindex' in damage


def test_the_unpacked_copy_of_a_listed_file_is_no_other_file(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap', compression='file')
    file = file_of(path)
    file.with_suffix('').write_bytes(zstd.decompress(file.read_bytes()))
    assert file.name == f'{file.with_suffix("").name}.zstd'
    images, damage = read_all(path, [RAW])
    assert len(images) == 12 and not damage


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('count', [60, 11, 0])
def test_another_number_of_messages_than_the_metadata_say_is_told(tmp_path, kind, count):
    path = write_bag(tmp_path / 'b', kind)

    def recount(description):
        for topic in description['topics_with_message_count']:
            if topic['topic_metadata']['name'] == RAW:
                topic['message_count'] = count

    describe(path, recount)
    images, damage = read_all(path)
    assert len(images) == 16
    assert f'metadata.yaml says {count} messages of {RAW}, and the files hold 12' in damage


def test_a_topic_of_the_metadata_that_no_file_has_is_told(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap')
    gone = {'topic_metadata': {'name': '/rear', 'type': 'sensor_msgs/msg/Image'},
            'message_count': 1}
    describe(path, lambda d: d['topics_with_message_count'].append(gone))
    assert 'says 1 message of /rear, and the files hold 0' in read_all(path)[1]
    # Of other topics nothing is read.
    described = {**gone, 'topic_metadata': {'name': '/x', 'type': 'std_msgs/msg/String'}}
    describe(path, lambda d: d.update(topics_with_message_count=[described]))
    assert read_all(path)[1] == ''


@pytest.mark.parametrize('counts', [None, 5, [], [1], [{}], [{'topic_metadata': {'name': [1]}}]])
def test_metadata_without_counts_say_nothing_of_them(tmp_path, counts):
    path = write_bag(tmp_path / 'b', 'mcap')
    describe(path, lambda d: d.update(topics_with_message_count=counts))
    images, damage = read_all(path)
    assert len(images) == 16 and not damage
