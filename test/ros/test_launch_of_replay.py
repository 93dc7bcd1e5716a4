"""What `ros2 launch` reads to play a bag into the monitor."""

from __future__ import annotations

import types

import pytest
from launch_loading import FOLDER, load_launch_file

pytestmark = pytest.mark.once

@pytest.fixture
def launch_file(monkeypatch):
    return load_launch_file('monitor', monkeypatch)


REPLAY_NAMES = (
    'bag', 'topic', 'rate', 'loop', 'start_offset', 'delay', 'everything', 'shutdown',
    'params_file', 'bundle', 'backend', 'device', 'trusted_packages', 'namespace', 'node_name',
    'log_level', 'rviz', 'rviz_config',
)


@pytest.fixture
def replay_launch(monkeypatch):
    return load_launch_file('replay', monkeypatch)


@pytest.fixture
def replay_given(replay_launch, tmp_path):
    (tmp_path / 'drive').mkdir()
    given = {argument.name: argument.default for argument in replay_launch.ARGUMENTS}
    return {**given, 'bag': str(tmp_path / 'drive')}


@pytest.mark.ros
def test_the_replays_arguments_are_those_promised_and_only_the_bag_has_no_default(replay_launch):
    assert tuple(argument.name for argument in replay_launch.ARGUMENTS) == REPLAY_NAMES
    for argument in replay_launch.ARGUMENTS:
        assert len(argument.description) > 10
        assert not argument.choices or argument.default in argument.choices
    assert [a.name for a in replay_launch.ARGUMENTS if a.default is None] == ['bag']


@pytest.mark.ros
def test_launch_accepts_the_replay_where_there_is_one():
    pytest.importorskip('launch_ros', reason='the launch system is on no package index')
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(FOLDER / 'replay.launch.py'))
    description = source.try_get_launch_description_without_context()
    assert tuple(a.name for a in description.get_launch_arguments()) == REPLAY_NAMES


@pytest.mark.ros
def test_a_bag_is_played_with_a_clock_and_its_images_alone(replay_launch, replay_given):
    assert replay_launch.command(replay_given) == [
        'ros2', 'bag', 'play', replay_given['bag'], '--clock', '100', '--rate', '1.0',
        '--start-offset', '0.0', '--delay', '1.0', '--disable-keyboard-controls',
        '--topics', '/camera/image_raw',
    ]
    replay_given.update(rate='0.5', loop='True', start_offset='12', everything='true', delay='3')
    assert replay_launch.command(replay_given) == [
        'ros2', 'bag', 'play', replay_given['bag'], '--clock', '100', '--rate', '0.5',
        '--start-offset', '12', '--delay', '3', '--disable-keyboard-controls', '--loop',
    ]


@pytest.mark.ros
@pytest.mark.parametrize(('topic', 'image_topic', 'transport'), [
    ('/camera/image_raw', '/camera/image_raw', 'raw'),
    ('/camera/image_raw/compressed', '/camera/image_raw', 'compressed'),
])
def test_the_monitor_hears_the_bags_topic_under_simulated_time(
    replay_launch, launch_file, replay_given, topic, image_topic, transport
):
    replay_given.update(topic=topic, bundle='digits')
    passed = replay_launch.monitor_arguments(replay_given)
    assert {name: passed[name] for name in (
        'image_topic', 'image_transport', 'use_sim_time', 'respawn', 'bundle')} == {
        'image_topic': image_topic, 'image_transport': transport, 'use_sim_time': 'true',
        'respawn': 'false', 'bundle': 'digits',
    }
    # Every one is an argument of the other launch file, with a value that it takes.
    known = {argument.name: argument for argument in launch_file.ARGUMENTS}
    for name, value in passed.items():
        assert not known[name].choices or value in known[name].choices


@pytest.mark.ros
@pytest.mark.parametrize(('change', 'said'), [
    ({'bag': 'none'}, 'bag: there is no none'),
    ({'rate': '0'}, "rate: '0' is not a number of at least 1e-06"),
    ({'rate': 'fast'}, "rate: 'fast' is not a number"),
    ({'start_offset': '-1'}, "start_offset: '-1' is not a number of at least 0"),
    ({'delay': 'nan'}, "delay: 'nan' is not a number"),
])
def test_what_cannot_be_played_stops_the_launch(replay_launch, replay_given, change, said):
    replay_given.update(change)
    with pytest.raises(RuntimeError, match=f'^{said}'):
        replay_launch.command(replay_given)


@pytest.mark.ros
def test_a_player_that_is_not_installed_stops_the_launch(replay_launch, monkeypatch):
    def missing(package):
        raise replay_launch.PackageNotFoundError(package)

    monkeypatch.setattr(replay_launch, 'get_package_share_directory', missing)
    with pytest.raises(RuntimeError, match=r'^ros2 bag is not installed: apt install [^\n]+$'):
        replay_launch.require_player()


@pytest.mark.ros
def test_the_player_starts_once_and_only_when_the_monitor_is_active(replay_launch):
    player = object()
    listen = replay_launch.player_starter(player)
    told = [
        types.SimpleNamespace(text=text) for text in (
            b"[INFO] bundle 'digits' (10 classes) on cpu\n", b'[WARN] ood_alert True: no_',
            b'image no image in the 0.0 s since activation\n', b'ood_alert True: no_image\n',
        )
    ]
    assert [listen(event) for event in told] == [None, None, [player], None]
