"""What `ros2 launch` reads to start the monitor beside Nav2."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
from launch_loading import FOLDER, load_launch_file, overrides

from nav_monitor_ros.runtime.monitor_parameters import BY_NAME

pytestmark = [pytest.mark.once, pytest.mark.ros]

NAMES = (
    'params_file', 'namespace', 'use_sim_time', 'node_name', 'image_topic', 'bundle',
    'bond_heartbeat_period', 'respawn', 'log_level', 'lifecycle_manager', 'autostart',
    'bond_timeout', 'bond_respawn_max_duration',
)


@pytest.fixture
def launch_file(monkeypatch):
    return load_launch_file('nav2', monkeypatch)


@pytest.fixture
def given(launch_file):
    return {argument.name: argument.default for argument in launch_file.ARGUMENTS}


def test_arguments_are_those_promised_each_with_a_description(launch_file):
    assert tuple(argument.name for argument in launch_file.ARGUMENTS) == NAMES
    for argument in launch_file.ARGUMENTS:
        assert len(argument.description) > 10
        assert not argument.choices or argument.default in argument.choices
    documented = (FOLDER.parent / 'docs' / 'reference.md').read_text()
    row = next(line for line in documented.splitlines() if line.startswith('| `nav2.launch.py`'))
    assert [name for name in NAMES if f'`{name}`' not in row] == []


def test_the_monitor_leaves_its_transitions_to_the_manager(launch_file, given):
    given.update(bundle='2024', use_sim_time='True', bond_heartbeat_period='0.25')
    parameters = launch_file.parameters(given)
    assert Path(parameters[0]).parts[-2:] == ('config', 'monitor.yaml')
    _, values = overrides(launch_file, given)
    assert values == {
        'bundle': '2024', 'use_sim_time': True, 'autostart': False, 'bond_heartbeat_period': 0.25}
    for name in set(values) - {'use_sim_time'}:
        assert BY_NAME[name].check(values[name]) == values[name]


def test_the_managers_parameters_have_nav2s_names_types_and_defaults(launch_file, given):
    assert launch_file.manager_parameters(given) == {
        'use_sim_time': False, 'autostart': True, 'node_names': ['nav_monitor'],
        'bond_timeout': 4.0, 'attempt_respawn_reconnection': True,
        'bond_respawn_max_duration': 10.0,
    }
    given.update(bond_timeout='1', bond_respawn_max_duration='20', autostart='False')
    own = launch_file.manager_parameters(given)
    # rclcpp refuses an integer for a double.
    assert [type(own[name]) for name in ('bond_timeout', 'bond_respawn_max_duration')] == [
        float, float]
    assert own['autostart'] is False


@pytest.mark.parametrize(('timeout', 'period', 'said'), [
    ('0', '0.1', 'a bond on one side only'),
    ('4.0', '0', 'a bond on one side only'),
    ('0.15', '0.1', 'at least two periods'),
    ('soon', '0.1', 'is not a number'),
    ('4.0', '-1', 'is not a number of at least 0'),
])
def test_a_bond_that_cannot_hold_is_refused_in_one_line(launch_file, given, timeout, period, said):
    given.update(bond_timeout=timeout, bond_heartbeat_period=period)
    with pytest.raises(RuntimeError, match=said) as caught:
        launch_file.manager_parameters(given)
    assert '\n' not in str(caught.value)


def test_without_a_bond_on_both_sides_there_is_none(launch_file, given):
    given.update(bond_timeout='0', bond_heartbeat_period='0')
    assert launch_file.manager_parameters(given)['bond_timeout'] == 0.0


def test_the_manager_is_started_in_the_namespace_of_the_monitor(launch_file, given, monkeypatch):
    started = []
    monkeypatch.setattr(launch_file, 'get_package_share_directory', lambda package: '')
    monkeypatch.setattr(launch_file, 'Node', lambda **named: started.append(named))
    given.update(namespace='robot', node_name='watch')
    launch_file.manager(given)
    assert (started[0]['package'], started[0]['executable']) == (
        'nav2_lifecycle_manager', 'lifecycle_manager')
    assert started[0]['namespace'] == 'robot'
    assert started[0]['parameters'][0]['node_names'] == ['watch']
    given.update(lifecycle_manager='false')
    assert launch_file.manager(given) == []


def test_nav2_that_is_not_installed_is_said_in_one_line(launch_file, given, monkeypatch):
    def missing(package):
        raise launch_file.PackageNotFoundError(package)

    monkeypatch.setattr(launch_file, 'get_package_share_directory', missing)
    with pytest.raises(RuntimeError, match='is not installed: apt install [^\n]+$'):
        launch_file.manager(given)


def test_launch_accepts_the_file_where_there_is_one():
    pytest.importorskip('launch_ros', reason='the launch system is on no package index')
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(FOLDER / 'nav2.launch.py'))
    description = source.try_get_launch_description_without_context()
    assert tuple(a.name for a in description.get_launch_arguments()) == NAMES


def test_all_actions_are_created(launch_file, given, monkeypatch):
    """The whole function runs, with stubs of the launch system where there is none."""
    monkeypatch.setattr(launch_file, 'get_package_share_directory', lambda package: '')
    monkeypatch.setattr(launch_file.launch_files, 'values_of', lambda arguments, context: given)
    monkeypatch.setattr(launch_file.launch_files, 'cancel_useless_respawn', lambda node: 'handler')
    monkeypatch.setattr(
        launch_file.launch_files, 'create_node',
        lambda executable, given, **named: types.SimpleNamespace(executable=executable, **named))
    context = types.SimpleNamespace(launch_configurations=given)
    handler, monitor, manager = launch_file.start(context)
    assert handler == 'handler' and monitor.executable == 'monitor' and manager is not None
    assert monitor.remappings == [('image', '/camera/image_raw')]
    assert monitor.name == 'nav_monitor'
