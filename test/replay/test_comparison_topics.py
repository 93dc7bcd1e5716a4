"""Runs of several cameras: each topic is compared with its own, whatever the runs call it."""

from __future__ import annotations

import shutil

import pytest
import tiny
from recorded import START, write_images
from test_comparison import FRONT, REAR, frame, run

from nav_monitor_ros.cli.main import main
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.replay.comparison import compare_runs, lines
from nav_monitor_ros.replay.verdict_log import Run, read_run

pytest.importorskip('rosbags')


def cameras(name, first, second, *, apart=0, **change):
    """Return a run of two cameras of three images each; the second's last one is changed."""
    frames = {}
    for topic, offset in ((first, 0), (second, apart)):
        for number in range(3):
            different = change if topic == second and number == 2 else {}
            frames[topic, START + number * 100_000_000 + offset, 0] = frame(number, **different)
    return Run(name, frames)


def test_topics_that_are_called_otherwise_are_paired_by_their_stamps():
    a = cameras('a', FRONT, REAR, apart=7, flagged=True)
    b = cameras('b', '/monitor/one', '/monitor/two', apart=7)
    found = compare_runs(a, b)
    assert found.common == 6 and found.a.topics == (FRONT, REAR) == found.b.topics
    [difference] = found.differences
    assert difference.key[0] == REAR and difference.kinds == ('flagged',)
    said = lines(found)
    assert f'{FRONT}: 3 images in both runs, 3 of them with the same verdict and alert' in said
    assert f'{REAR}: 3 images in both runs, 2 of them with the same verdict and alert' in said
    assert f'the first difference is at 0.20 s of {REAR}: ' in said[-1]


def test_cameras_that_share_their_stamps_are_paired_by_their_names():
    a, b = cameras('a', FRONT, REAR), cameras('b', '/monitor/rear', '/monitor/front', flagged=True)
    found = compare_runs(a, b)
    assert found.common == 6
    assert [difference.key[0] for difference in found.differences] == [FRONT]


def test_topics_that_cannot_be_paired_are_asked_for_by_name():
    a, b = cameras('a', FRONT, REAR), cameras('b', '/monitor/x', '/monitor/y')
    with pytest.raises(NavMonitorError, match=f'images of {FRONT}, {REAR}.*--topic'):
        compare_runs(a, b)
    found = compare_runs(*(one.of_topics([FRONT, 'monitor/y']) for one in (a, b)))
    assert found.common == 3 and found.a.topics == found.b.topics == (FRONT,)
    with pytest.raises(NavMonitorError, match='--topic /side; it has those on /front/image, /rear'):
        a.of_topics(['/side'])


def test_a_topic_that_one_run_lacks_is_told():
    found = compare_runs(cameras('a', FRONT, REAR), run('b', {}, {}, {}))
    assert found.alone('a') == 3
    assert f'{REAR}: only in a; --topic says which topics are compared' in lines(found)


@pytest.fixture(scope='module')
def judged(tiny_folder, tmp_path_factory):
    """Return a folder with a run of two cameras, as a table and as a bag."""
    folder = tmp_path_factory.mktemp('judged')
    drive = write_images(folder / 'drive', {
        FRONT: list(tiny.images(7, 12)[0]), REAR: list(tiny.strange(7, 12))})
    assert main(['replay', str(drive), '--bundle', str(tiny_folder), '--trust', 'tiny', '--topic',
                 FRONT, '--topic', REAR, '--csv', str(folder / 'a.csv'), '--output',
                 str(folder / 'a')]) == 0
    return folder


def live_recording(replayed, folder):
    """Write a bag with the status topics that a node with two cameras has."""
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store, kind = get_typestore(Stores.ROS2_HUMBLE), 'diagnostic_msgs/msg/DiagnosticArray'
    pair = store.types['diagnostic_msgs/msg/KeyValue']
    with Reader(replayed) as reader, Writer(
        folder, version=8, storage_plugin=StoragePlugin.MCAP
    ) as writer:
        places = {
            name: writer.add_connection(f'/nav_monitor/{name}ood_status', kind, typestore=store)
            for name in ('', 'front/', 'rear/')
        }
        for one, time_ns, data in reader.messages():
            if one.topic.endswith('/ood_status'):
                writer.write(places[f'{one.topic.split("/")[1]}/'], time_ns, data)
                message = store.deserialize_cdr(data, kind)
                message.status[0].values.append(pair('cameras', 'front rear'))
                writer.write(places[''], time_ns, store.serialize_cdr(message, kind))
    return folder


def test_a_recording_of_a_node_with_several_cameras_keeps_them_apart(judged, tmp_path, capsys):
    live = live_recording(judged / 'a', tmp_path / 'live')
    found = read_run(live)
    assert set(found.topics) == {'/nav_monitor/front', '/nav_monitor/rear'}
    assert len(found.frames) == 24
    assert main(['compare', str(judged / 'a.csv'), str(live), '--fail-on-difference']) == 0
    said = capsys.readouterr().out
    assert '24 images in both runs, 24 of them' in said and f'{REAR}: 12 images in both' in said


def test_one_topic_of_several_is_compared_alone(judged, capsys):
    runs = [str(judged / 'a.csv'), str(judged / 'a')]
    assert main(['compare', *runs, '--topic', REAR]) == 0
    assert '12 images in both runs' in capsys.readouterr().out
    assert main(['compare', *runs, '--topic', '/side/image']) == 2
    assert f'it has those on {FRONT}, {REAR}' in capsys.readouterr().err


@pytest.mark.parametrize('spelling', [str.upper, str.capitalize])
def test_a_table_that_a_spreadsheet_has_saved_is_read_alike(judged, tmp_path, spelling, capsys):
    text = (judged / 'a.csv').read_text()
    for word in ('true', 'false'):
        text = text.replace(f',{word},', f',{spelling(word)},').replace(
            f',{word},', f',{spelling(word)},')
    (tmp_path / 'saved.csv').write_text(text, encoding='utf-8-sig')
    assert spelling('true') in text
    assert main(['compare', str(judged / 'a.csv'), str(tmp_path / 'saved.csv'),
                 '--fail-on-difference']) == 0
    shutil.copy(tmp_path / 'saved.csv', tmp_path / 'broken.csv')
    (tmp_path / 'broken.csv').write_text(text.replace(f',{spelling("true")},', ',yes,', 1))
    assert main(['compare', str(judged / 'a.csv'), str(tmp_path / 'broken.csv')]) == 2
    assert 'neither true nor false' in capsys.readouterr().err
