"""`nav_monitor replay`: bags that are damaged, outputs that cannot be written, images of no use."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
import recorded
from recorded import PACKED, RAW, START, file_of, write_bag, write_images
from replayed import FRONT, REAR, drive, messages_of, refused, rows_of, table_of

from nav_monitor_ros.cli.main import main
from nav_monitor_ros.replay import output_files

pytest.importorskip('rosbags')
pytest.importorskip('backports.zstd')
pytest.importorskip('lz4.frame')
from rosbags.typesys import Stores, get_typestore  # noqa: E402


def test_what_is_left_of_a_bag_that_breaks_off_is_judged_and_kept(judge, tmp_path, capsys):
    bag = write_bag(tmp_path / 'b', 'mcap', compression='storage', frames=30, chunks=6)
    whole = file_of(bag).read_bytes()
    file_of(bag).write_bytes(whole[: len(whole) * 2 // 3])
    said = refused(capsys, judge(
        bag, '--topic', RAW, '--csv', tmp_path / 't.csv', '--output', tmp_path / 'o',
        '--html', tmp_path / 'p.html'))
    assert 'is truncated' in said and 'images were read' in said
    rows = rows_of(tmp_path / 't.csv')
    assert 10 <= len(rows) < 30
    assert len(messages_of(tmp_path / 'o')['/nav_monitor/ood_status']) == len(rows)
    assert 'is truncated' in (tmp_path / 'p.html').read_text()


def test_what_is_left_of_a_data_base_that_breaks_off_is_judged_and_kept(judge, tmp_path, capsys):
    bag = write_images(tmp_path / 'b', {FRONT: [np.tile(p, (8, 8, 1)) for p in drive()]},
                       storage='sqlite3')
    whole = file_of(bag).read_bytes()
    file_of(bag).write_bytes(whole[: len(whole) // 2])
    said = refused(capsys, judge(bag, '--csv', tmp_path / 't.csv'))
    assert 'is damaged' in said and 'images were read' in said
    assert 10 <= len(rows_of(tmp_path / 't.csv')) < 40


def test_a_file_without_an_index_and_a_folder_without_metadata_are_judged(
    judge, plain, tmp_path, capsys
):
    bag = write_bag(tmp_path / 'b', 'mcap', compression='storage')
    file_of(bag).write_bytes(recorded.unindexed(file_of(bag).read_bytes()))
    assert table_of(judge, bag, tmp_path / 't.csv', '--topic', RAW) == plain
    capsys.readouterr()
    (bag / 'metadata.yaml').unlink()
    said = refused(capsys, judge(bag, '--topic', RAW, '--csv', tmp_path / 'u.csv'))
    assert 'no metadata.yaml' in said and 'ros2 bag reindex' in said
    assert rows_of(tmp_path / 'u.csv') == plain


@pytest.mark.parametrize(('arguments', 'wanted'), [
    (['--topic', '/nothing'], [RAW, PACKED, 'is not there']),
    (['--topic', '/imu'], ['std_msgs/msg/String', RAW, PACKED]),
    ([], ['--topic', RAW, PACKED]),
])
def test_a_topic_that_cannot_be_judged_is_answered_with_those_that_can(
    judge, tmp_path, capsys, arguments, wanted
):
    said = refused(capsys, judge(
        write_bag(tmp_path / 'b', 'mcap'), *arguments, '--output', tmp_path / 'o'))
    assert [text for text in wanted if text not in said] == []
    assert not (tmp_path / 'o').exists()


def test_a_bag_without_a_single_image_of_the_topic_is_refused(judge, tmp_path, capsys):
    bag = write_images(tmp_path / 'b', {FRONT: [None], REAR: drive()})
    said = refused(capsys, judge(bag, '--topic', FRONT, '--csv', tmp_path / 't.csv'))
    assert f'no image of {FRONT}' in said and not (tmp_path / 't.csv').exists()


def test_places_that_cannot_be_written_are_named(judge, recording, tmp_path, capsys):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'file').write_text('')
    for arguments, wanted in (
        (['--output', tmp_path / 'there'], f'{tmp_path / "there"} already exists'),
        (['--output', tmp_path / 'file' / 'o'], 'cannot write'),
        (['--csv', tmp_path / 'there'], 'it is a folder'),
        (['--csv', tmp_path / 'file' / 't.csv'], 'cannot write'),
        (['--html', tmp_path / 'file' / 'p.html'], str(tmp_path / 'file')),
        (['--overlay'], '--output'),
        (['--params', tmp_path / 'none.yaml'], 'does not exist'),
    ):
        assert wanted in refused(capsys, judge(recording, *arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'there']


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--output', 'o', '--csv', 'o/t.csv'], 'lies in --output o'),
    (['--output', 'o', '--html', 'link/o/p.html'], 'lies in --output o'),
    (['--csv', 'x', '--html', 'link/x'], '--html link/x is the same file as --csv'),
    (['--output', 'x', '--csv', 'x'], '--output x is the same file as --csv'),
    (['--csv', 'bag/metadata.yaml'], 'lies in the bag bag, which is read'),
])
def test_outputs_that_would_replace_each_other_are_refused_before_the_work(
    judge, recording, tmp_path, capsys, monkeypatch, arguments, said
):
    shutil.copytree(recording, tmp_path / 'bag')
    (tmp_path / 'link').symlink_to('.')
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    assert said in refused(capsys, judge('bag', *arguments))
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('error', [KeyboardInterrupt(), OSError(28, 'No space left on device')])
def test_outputs_are_whole_or_not_there(judge, recording, tmp_path, capsys, monkeypatch, error):
    (tmp_path / 't.csv').write_text('of an earlier replay')
    wrote = output_files.BagWriter._put

    def put(self, connection, time_ns, message):
        if time_ns > START + 500_000_000:
            with output_files._naming_errors(self._folder):
                raise error
        wrote(self, connection, time_ns, message)

    monkeypatch.setattr(output_files.BagWriter, '_put', put)
    status = judge(recording, '--output', tmp_path / 'o', '--csv', tmp_path / 't.csv')
    if isinstance(error, OSError):
        said = refused(capsys, status)
        assert f'{tmp_path / "o"} cannot be written: No space left' in said
    else:
        assert status == 130
    assert [path.name for path in tmp_path.iterdir()] == ['t.csv']
    assert (tmp_path / 't.csv').read_text() == 'of an earlier replay'


def spoilt(folder, count, total=45, *, kind='mcap'):
    """Write a bag of compressed images of which the first ones are no pictures."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    name = 'sensor_msgs/msg/CompressedImage'
    pictures = drive(count=total, strange=())
    with Writer(folder, version=9, storage_plugin=StoragePlugin[kind.upper()]) as writer:
        connection = writer.add_connection(FRONT, name, typestore=store)
        for number in range(total):
            received = START + round(number * 1e9 / 30)
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(received, 10**9)), 'front')
            encoded = cv2.imencode('.jpg', pictures[number][..., ::-1])[1].reshape(-1)
            form = ('', 'mjpeg', 'MJPG', 'jpeg')[number % 4]
            if number < count:
                form, encoded = 'h264', np.zeros(100, np.uint8)
            message = types[name](header, form, encoded)
            writer.write(connection, received, store.serialize_cdr(message, name))
    return folder


def test_images_that_none_could_judge_are_not_called_judged(judge, tmp_path, capsys):
    bag = spoilt(tmp_path / 'bag', 45)
    status = judge(bag, '--csv', tmp_path / 'table.csv', '--html', tmp_path / 'page.html')
    said = capsys.readouterr()
    assert status == 2
    assert '0 of 45 images of bag judged' in said.out and '45 bad_image' in said.out
    assert said.err.count('\n') == 1 and '0 of 45 images judged: 45 bad_image (' in said.err
    assert "format 'h264') is neither JPEG nor PNG" in said.err
    assert {row['reason'] for row in rows_of(tmp_path / 'table.csv')} == {'bad_image'}
    page = (tmp_path / 'page.html').read_text()
    assert '0 of 45 images judged' in page and 'Nothing but clear frames' not in page


def test_the_judged_and_the_others_are_counted(judge, tmp_path, capsys):
    assert judge(spoilt(tmp_path / 'bag', 15), '--html', tmp_path / 'page.html') == 0
    said = capsys.readouterr().out
    assert '30 of 45 images of bag judged' in said and 'not judged: 15 bad_image (' in said
    assert '30 of 45 images judged' in (tmp_path / 'page.html').read_text()


def test_jpegs_are_judged_whatever_their_format_is_called(judge, tmp_path, capsys):
    rows = table_of(judge, spoilt(tmp_path / 'bag', 0), tmp_path / 'table.csv')
    assert all(row['class'] for row in rows) and len(rows) == 45
    assert '45 of 45 images of bag judged' in capsys.readouterr().out


def test_runs_that_judged_nothing_are_not_alike(judge, tmp_path, capsys):
    bag = spoilt(tmp_path / 'bag', 45)
    table = tmp_path / 'table.csv'
    judge(bag, '--csv', table)
    capsys.readouterr()
    assert main(['compare', str(table), str(table)]) == 2
    said = capsys.readouterr()
    assert '0 of 45 images judged: 45 bad_image' in said.err
