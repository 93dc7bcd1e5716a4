"""What `ros2 launch` reads to start the monitor, and what all launch files share."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import signal
import subprocess
import threading
import types
from pathlib import Path

import pytest
import yaml
from launch_loading import FOLDER, load_launch_file, overrides

from nav_monitor_ros.ros import launch_files
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME

pytestmark = pytest.mark.once

CONFIG = FOLDER.parent / 'config'
NAMES = (
    'image_topic', 'cameras', 'image_topics', 'image_transport', 'use_sim_time', 'autostart',
    'respawn', 'params_file', 'bundle', 'backend', 'device', 'trusted_packages', 'namespace',
    'node_name', 'log_level', 'rviz', 'rviz_config',
)
# An empty string leaves the parameter file's value.
OVERRIDES = (
    'bundle', 'backend', 'device', 'image_transport', 'cameras', 'trusted_packages', 'autostart',
    'use_sim_time',
)


@pytest.fixture
def launch_file(monkeypatch):
    return load_launch_file('monitor', monkeypatch)


@pytest.fixture
def given(launch_file):
    """Return the values of all arguments where none is given."""
    return {argument.name: argument.default for argument in launch_file.ARGUMENTS}


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.py')), ids=lambda p: p.name)
def test_launch_file_compiles_and_evaluates_no_text(path):
    tree = ast.parse(path.read_text())
    compile(tree, str(path), 'exec')
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert 'OpaqueFunction' in used
    assert not used & {'eval', 'exec', 'compile', 'PythonExpression', 'Command'}


class _Configuration:
    """Stands in for LaunchConfiguration: the context is the given values themselves."""

    def __init__(self, name):
        self._name = name

    def perform(self, context):
        return context.launch_configurations[self._name]


class _Respawning:
    """Stands in for launch_ros' Node."""

    def __init__(self, **named):
        self.named = named


@pytest.mark.parametrize('name', ['monitor', 'safety_stop', 'nav2', 'replay'])
@pytest.mark.parametrize(
    ('argument', 'meant'), [
        ('Namespace', 'namespace'), ('name_space', 'namespace'), ('use_simtime', 'use_sim_time'),
        ('namespac', 'namespace'), ('namespaces', 'namespace'), ('bundles', 'bundle'),
        ('map', ''), ('robot_namespace', ''), ('slam_params_file', ''), ('ros_namespace', ''),
    ])
def test_a_misspelt_argument_is_told_and_one_of_another_launch_file_is_not(
    monkeypatch, name, argument, meant
):
    """launch itself ignores it: with ``bundel:=mine``, the default bundle would run in silence."""
    module = load_launch_file(name, monkeypatch)
    monkeypatch.setattr(importlib.import_module('launch.actions'), 'LogInfo', lambda msg: msg)
    known = {one.name: one.default for one in module.ARGUMENTS}
    context = types.SimpleNamespace(launch_configurations={**known, argument: 'value'})
    lines = module.launch_files.warn_of_misspelt(module.ARGUMENTS, context)
    assert lines == [
        f'WARNING: {argument} is not an argument of this launch file; did you mean {meant}?'
    ] * bool(meant and meant in known)
    assert 'warn_of_misspelt(ARGUMENTS, context)' in (FOLDER / f'{name}.launch.py').read_text()


@pytest.mark.ros
@pytest.mark.parametrize('name', ['monitor', 'safety_stop'])
@pytest.mark.parametrize(
    ('status', 'again'), [
        (1, False), (102, False), (70, True), (0, True), (-signal.SIGKILL, True),
        (-signal.SIGSEGV, True),
    ])
def test_what_cannot_be_used_is_not_started_again_and_what_crashed_is(
    monkeypatch, name, status, again
):
    from nav_monitor_ros.ros.process.process import FAILED, UNUSABLE

    assert (UNUSABLE, FAILED) == (1, 70)
    module = load_launch_file(name, monkeypatch)
    for place, replacement in {
        'launch.substitutions.LaunchConfiguration': _Configuration,
        'launch_ros.actions.Node': _Respawning,
        'launch.actions.RegisterEventHandler': lambda handler: handler,
        'launch.event_handlers.OnProcessExit': lambda **named: named,
        'launch.actions.EmitEvent': lambda event: event,
        'launch.events.matches_action': lambda action: action,
        'launch.events.process.ShutdownProcess': lambda process_matcher: process_matcher,
    }.items():
        module_name, _, attribute = place.rpartition('.')
        monkeypatch.setattr(importlib.import_module(module_name), attribute, replacement)
    given = {argument.name: argument.default for argument in module.ARGUMENTS}
    given['params_file'] = str(CONFIG / f'{name}.yaml')
    handler, node = module.start(types.SimpleNamespace(launch_configurations=given))
    assert node.named['executable'] == name
    assert node.named['respawn'] is True
    assert node.named['respawn_delay'] > 0  # in which launch can still be told not to
    assert handler['target_action'] is node
    called_off = handler['on_exit'](types.SimpleNamespace(returncode=status), None)
    assert called_off is (None if again else node)


@pytest.mark.ros
def test_launch_starts_a_crash_again_and_an_unusable_configuration_not_where_there_is_one():
    pytest.importorskip('launch_ros', reason='the launch system is on no package index')
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription, RegisterEventHandler
    from launch.event_handlers import OnProcessStart
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    def starts(wrong):
        """Return how often the gate was started within ten seconds, the first time killed."""
        seen = []

        def started(event, _context):
            seen.append(event.pid)
            if not wrong and len(seen) == 1:
                os.kill(event.pid, signal.SIGKILL)

        service = LaunchService(noninteractive=True)
        service.include_launch_description(LaunchDescription([
            RegisterEventHandler(OnProcessStart(on_start=started)),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(FOLDER / 'safety_stop.launch.py')),
                launch_arguments=[('cmd_vel_in', '/cmd_vel')] if wrong else [],
            ),
        ]))
        threading.Timer(10.0, service.shutdown).start()
        service.run()
        return len(seen)

    assert starts(wrong=True) == 1
    assert starts(wrong=False) == 2


@pytest.mark.ros
def test_arguments_are_those_promised_each_with_a_description(launch_file):
    assert tuple(argument.name for argument in launch_file.ARGUMENTS) == NAMES
    for argument in launch_file.ARGUMENTS:
        assert len(argument.description) > 10
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.ros
def test_closed_arguments_have_choices_and_those_of_the_parameters(launch_file):
    choices = {a.name: set(a.choices) for a in launch_file.ARGUMENTS if a.choices}
    booleans = {'true', 'false', 'True', 'False'}
    assert choices == {
        'image_transport': {'', *BY_NAME['image_transport'].choices},
        'use_sim_time': {'', *booleans},
        'autostart': {'', *booleans},
        'respawn': booleans,
        'rviz': booleans,
        'log_level': {'debug', 'info', 'warn', 'error', 'fatal'},
    }


@pytest.mark.ros
def test_without_arguments_every_parameter_is_the_files(launch_file, given):
    assert [given[name] for name in OVERRIDES] == [''] * len(OVERRIDES)
    files, values = overrides(launch_file, given)
    assert len(files) == 1
    installed = Path(files[0])  # a link or a copy
    assert installed.parts[-3:] == ('nav_monitor_ros', 'config', 'monitor.yaml')
    assert installed.read_text() == (CONFIG / 'monitor.yaml').read_text()
    assert values == {}


@pytest.mark.ros
def test_arguments_become_parameters_of_the_right_type(launch_file, given):
    given.update(
        bundle='2024', device='cpu', image_transport='compressed', autostart='False',
        use_sim_time='true', params_file='', cameras='front, on,rear',
        backend='torch', trusted_packages='my_net',
    )
    files, values = overrides(launch_file, given)
    assert files == []
    # A bundle whose name reads as a number stays a name.
    assert values == {
        'bundle': '2024', 'device': 'cpu', 'image_transport': 'compressed', 'autostart': False,
        'use_sim_time': True, 'cameras': ['front', 'on', 'rear'], 'backend': 'torch',
        'trusted_packages': ['my_net'],
    }
    assert set(values) == set(OVERRIDES)
    for name in set(OVERRIDES) - {'use_sim_time'}:  # which every node has
        assert BY_NAME[name].check(values[name]) == values[name]


@pytest.mark.ros
@pytest.mark.parametrize('value', ['a,b', ' a, b ', "['a', 'b']", '["a","b"]', '[a, b]'])
def test_names_may_be_written_as_in_a_parameter_file(launch_file, given, value):
    given.update(trusted_packages=value)
    assert overrides(launch_file, given)[1] == {'trusted_packages': ['a', 'b']}


@pytest.mark.ros
def test_images_come_from_one_topic_or_from_one_for_each_camera(launch_file, given):
    assert launch_file.remappings(given) == [('image', '/camera/image_raw')]
    given.update(cameras='front,rear')
    assert launch_file.remappings(given) == [
        ('front/image', '/front/image_raw'), ('rear/image', '/rear/image_raw')]
    given.update(image_topics='cam_{camera}/color/{camera}')
    assert launch_file.remappings(given)[1] == ('rear/image', 'cam_rear/color/rear')
    given.update(image_topics='')
    assert launch_file.remappings(given) == []
    given.update(image_topics='/camera/image_raw')
    with pytest.raises(RuntimeError, match=r'^image_topics is /camera/image_raw; it must contain'):
        launch_file.remappings(given)


@pytest.mark.ros
@pytest.mark.parametrize(
    ('cameras', 'said'),
    [
        ('front,9rear', "parameter cameras names '9rear'; a name must start with a letter"),
        ('front,rear-left', "parameter cameras names 'rear-left'; a name must start with a letter"),
        ('front, front', "parameter cameras names 'front' twice"),
        ('front,re ar', "parameter cameras names 're ar'; a name"),
        ('front,/rear', "parameter cameras names '/rear'; a name"),
        (','.join(f'c{i}' for i in range(17)), 'parameter cameras names 17 cameras'),
    ],
)
def test_cameras_that_topics_cannot_be_named_after_are_refused_in_one_line(
    launch_file, given, cameras, said
):
    given.update(cameras=cameras)
    for function in (launch_file.remappings, launch_file.parameters):
        with pytest.raises(RuntimeError, match=f'^{said}') as caught:
            function(given)
        assert '\n' not in str(caught.value)


@pytest.mark.ros
def test_rviz_shows_the_first_of_several_cameras(launch_file, given, monkeypatch):
    started = []
    monkeypatch.setattr(launch_file, 'get_package_share_directory', lambda package: '')
    monkeypatch.setattr(launch_file, 'Node', lambda **named: started.append(named))
    given.update(rviz='true', cameras='front,rear')
    launch_file.rviz(given, '')
    assert dict(started[0]['remappings']) == {
        '/nav_monitor/overlay': '/nav_monitor/front/overlay',
        '/nav_monitor/activations': '/nav_monitor/front/activations',
        '/nav_monitor/activation_volume': '/nav_monitor/front/activation_volume',
        '/camera/image_raw': '/front/image_raw',
    }


@pytest.mark.ros
def test_a_parameter_file_that_is_not_there_stops_the_launch(launch_file, given, tmp_path):
    given['params_file'] = str(tmp_path / 'typo.yaml')
    with pytest.raises(RuntimeError, match=r'^params_file: there is no file .*typo\.yaml; [^\n]+$'):
        launch_file.parameters(given)


@pytest.mark.ros
@pytest.mark.parametrize(
    ('name', 'namespace', 'resolved'),
    [
        ('nav_monitor', '', '/nav_monitor'),
        ('nav_monitor', '/', '/nav_monitor'),
        ('nav_monitor', 'robot/', '/robot/nav_monitor'),
        ('', '/robot', '/robot'),
        ('/cam/image', '/robot', '/cam/image'),
    ],
)
def test_names_are_resolved_as_ros_does(name, namespace, resolved):
    assert launch_files.absolute_name(name, namespace) == resolved


@pytest.mark.parametrize('name', ['', '/', 'robot', '/robot', 'robot/', 'a/_b/c1'])
def test_names_that_ros_takes_pass(name):
    launch_files.check_names({'namespace': name}, 'namespace')


@pytest.mark.parametrize('name', ['9a', 'a-b', 'a/9', 'a//b', 'a b', '~/a', '{a}'])
def test_names_that_ros_does_not_take_are_refused_in_one_line(name):
    with pytest.raises(RuntimeError, match=r"^namespace: '.*' is not a valid ROS name; [^\n]+$"):
        launch_files.check_names({'namespace': name}, 'namespace')


@pytest.mark.ros
def test_rviz_is_started_only_where_it_is_wanted(launch_file, given):
    assert launch_file.rviz(given, '') == []


@pytest.mark.ros
def test_rviz_that_is_not_installed_is_said(launch_file, given, monkeypatch):
    def missing(package):
        raise launch_file.PackageNotFoundError(package)

    monkeypatch.setattr(launch_file, 'get_package_share_directory', missing)
    [action] = launch_file.rviz({**given, 'rviz': 'true'}, '')
    assert type(action).__name__ == 'LogInfo'


@pytest.mark.ros
def test_rviz_shows_the_node_that_was_started(launch_file, given, monkeypatch):
    started = []
    monkeypatch.setattr(launch_file, 'get_package_share_directory', lambda package: '')
    monkeypatch.setattr(launch_file, 'Node', lambda **named: started.append(named))
    given.update(rviz='True', namespace='front', node_name='watch', image_topic='rgb')
    launch_file.rviz(given, '/robot')
    assert dict(started[0]['remappings']) == {
        '/nav_monitor/overlay': '/robot/front/watch/overlay',
        '/nav_monitor/activations': '/robot/front/watch/activations',
        '/nav_monitor/activation_volume': '/robot/front/watch/activation_volume',
        '/camera/image_raw': '/robot/front/rgb',
    }
    # What is mapped is what the configuration names.
    config = yaml.safe_load((CONFIG / 'monitor.rviz').read_text())
    displays = config['Visualization Manager']['Displays']
    shown = {display['Topic']['Value'] for display in displays}
    assert set(dict(started[0]['remappings'])) == shown


@pytest.mark.ros
def test_launch_accepts_the_file_where_there_is_one():
    pytest.importorskip('launch_ros', reason='the launch system is on no package index')
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(FOLDER / 'monitor.launch.py'))
    description = source.try_get_launch_description_without_context()
    assert tuple(a.name for a in description.get_launch_arguments()) == NAMES


@pytest.mark.ros
@pytest.mark.skipif(not shutil.which('ros2'), reason='no ros2 command here')
def test_ros2_launch_shows_the_arguments_and_says_what_is_wrong(tmp_path):
    command = ['ros2', 'launch', 'nav_monitor_ros', 'monitor.launch.py']
    shown = subprocess.run([*command, '--show-args'], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert [name for name in NAMES if f"'{name}':" not in shown.stdout] == []
    refused = subprocess.run(
        [*command, f'params_file:={tmp_path}/typo.yaml'],
        capture_output=True, text=True, timeout=120,
    )
    assert refused.returncode == 1
    assert 'params_file: there is no file' in refused.stdout + refused.stderr
