"""What `ros2 launch` and RViz read, and the middleware's profile."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
import yaml

from nav_monitor_ros.ros.safety_stop import parameters
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all
from nav_monitor_ros.runtime.parameter import yaml_file

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / 'launch' / 'monitor.launch.py'
NAMES = (
    'image_topic', 'cameras', 'image_topics', 'image_transport', 'params_file', 'bundle', 'backend',
    'device', 'trusted_packages', 'namespace', 'node_name', 'use_sim_time', 'autostart', 'respawn',
    'log_level', 'rviz', 'rviz_config',
)
# An empty string leaves the parameter file's value.
OVERRIDES = (
    'bundle', 'backend', 'device', 'image_transport', 'cameras', 'trusted_packages', 'autostart',
    'use_sim_time',
)


class _Typed(NamedTuple):
    """Stands in for launch_ros' ParameterValue where there is no launch."""

    given: object
    value_type: type

    def evaluate(self, _context):
        return self.value_type(self.given)


class _Action:
    """Stands in for every other name that the launch file imports."""

    def __init__(self, *positional, **named):
        self.positional, self.named = positional, named


def _stand_ins() -> dict[str, types.ModuleType]:
    """Return modules in place of launch and launch_ros, which no package index has."""
    names = {
        'launch': ('LaunchContext', 'LaunchDescription', 'LaunchDescriptionEntity'),
        'launch.actions': (
            'DeclareLaunchArgument', 'EmitEvent', 'ExecuteProcess', 'IncludeLaunchDescription',
            'LogInfo', 'OpaqueFunction', 'RegisterEventHandler',
        ),
        'launch.event_handlers': ('OnProcessExit', 'OnProcessIO'),
        'launch.events': ('Shutdown', 'matches_action'),
        'launch.events.process': ('ProcessExited', 'ProcessIO', 'ShutdownProcess'),
        'launch.launch_description_sources': ('PythonLaunchDescriptionSource',),
        'launch.substitutions': ('LaunchConfiguration',),
        'launch_ros': (),
        'launch_ros.actions': ('Node',),
        'launch_ros.parameter_descriptions': (),
    }
    modules = {name: types.ModuleType(name) for name in names}
    for name, attributes in names.items():
        for attribute in attributes:
            setattr(modules[name], attribute, type(attribute, (_Action,), {}))
    modules['launch_ros.parameter_descriptions'].ParameterValue = _Typed
    return modules


@pytest.fixture
def launch_file(monkeypatch):
    """Return the launch file as a module, over the real launch where there is one."""
    return load_launch_file(LAUNCH_FILE, monkeypatch)


def load_launch_file(path, monkeypatch):
    pytest.importorskip('ament_index_python')
    # Where they stand in already, launch_ros is a module without a place.
    if 'launch_ros' not in sys.modules and importlib.util.find_spec('launch_ros') is None:
        for name, module in _stand_ins().items():
            monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location('launch_file', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # not in sys.modules, as launch does it
    return module


@pytest.fixture
def given(launch_file):
    """Return the values of all arguments where none is given."""
    return {argument.name: argument.default for argument in launch_file.ARGUMENTS}


def overrides(launch_file, given):
    """Return the parameter files, and the parameters that take precedence over them."""
    parameters = launch_file.parameters(given)
    files = [entry for entry in parameters if isinstance(entry, str)]
    values = {}
    for entry in parameters:
        if not isinstance(entry, str):
            values.update({name: value.evaluate(None) for name, value in entry.items()})
    return files, values


# ------------------------------------------------------------------ the launch file


@pytest.mark.parametrize('path', sorted((ROOT / 'launch').glob('*.py')), ids=lambda p: p.name)
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
    module = load_launch_file(ROOT / 'launch' / f'{name}.launch.py', monkeypatch)
    monkeypatch.setattr(module, 'LaunchConfiguration', _Configuration)
    monkeypatch.setattr(module, 'Node', _Respawning)
    monkeypatch.setattr(module, 'RegisterEventHandler', lambda handler: handler)
    monkeypatch.setattr(module, 'OnProcessExit', lambda **named: named)
    monkeypatch.setattr(module, 'EmitEvent', lambda event: event)
    monkeypatch.setattr(module.events, 'matches_action', lambda action: action)
    monkeypatch.setattr(module.process, 'ShutdownProcess', lambda process_matcher: process_matcher)
    given = {argument.name: argument.default for argument in module.ARGUMENTS}
    given['params_file'] = str(ROOT / 'config' / f'{name}.yaml')
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
                PythonLaunchDescriptionSource(str(ROOT / 'launch' / 'safety_stop.launch.py')),
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
    assert installed.read_text() == (ROOT / 'config' / 'monitor.yaml').read_text()
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
    with pytest.raises(RuntimeError, match=r'^image_topics is /camera/image_raw; it must hold'):
        launch_file.remappings(given)


@pytest.mark.ros
@pytest.mark.parametrize(
    ('cameras', 'said'),
    [
        ('front,9rear', "parameter cameras names '9rear'; a name begins with a letter"),
        ('front,rear-left', "parameter cameras names 'rear-left'; a name begins with a letter"),
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
def test_names_are_resolved_as_ros_does(launch_file, name, namespace, resolved):
    assert launch_file.absolute(name, namespace) == resolved


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
    assert set(dict(started[0]['remappings'])) == set(rviz_topics())


@pytest.mark.ros
def test_launch_accepts_the_file_where_there_is_one():
    pytest.importorskip('launch_ros', reason='the launch system is on no package index')
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
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


def test_parameter_file_is_the_table_at_its_defaults_for_any_node_name():
    text = (ROOT / 'config' / 'monitor.yaml').read_text()
    assert text == yaml_file(PARAMETERS, 'nav_monitor', 'runtime/monitor_parameters')
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert yaml.safe_load(text) == {'/**': {'ros__parameters': defaults}}
    assert check_all(defaults) == defaults


# ------------------------------------------------------------------ the gate

SAFETY_STOP_LAUNCH = ROOT / 'launch' / 'safety_stop.launch.py'
SAFETY_STOP_NAMES = (
    'params_file', 'namespace', 'cmd_vel_in', 'cmd_vel_out', 'stamped', 'respawn', 'use_sim_time',
    'log_level',
)


@pytest.fixture
def gate_launch(monkeypatch):
    return load_launch_file(SAFETY_STOP_LAUNCH, monkeypatch)


@pytest.fixture
def gate_given(gate_launch):
    return {argument.name: argument.default for argument in gate_launch.ARGUMENTS}


@pytest.mark.ros
def test_the_gates_arguments_are_those_promised_each_with_a_description(gate_launch):
    assert tuple(argument.name for argument in gate_launch.ARGUMENTS) == SAFETY_STOP_NAMES
    for argument in gate_launch.ARGUMENTS:
        assert len(argument.description) > 10
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.ros
def test_without_arguments_the_gate_has_its_file_and_its_names(gate_launch, gate_given):
    [file], values = overrides(gate_launch, gate_given)
    assert Path(file).parts[-3:] == ('nav_monitor_ros', 'config', 'safety_stop.yaml')
    assert values == {}
    assert gate_launch.remappings(gate_given) == [
        ('cmd_vel_in', 'cmd_vel_in'), ('cmd_vel', 'cmd_vel')]


@pytest.mark.ros
def test_the_gates_arguments_become_parameters_and_names(gate_launch, gate_given):
    gate_given.update(
        params_file='', stamped='True', use_sim_time='false', cmd_vel_in='cmd_vel_smoothed',
        cmd_vel_out='/base/cmd_vel',
    )
    assert overrides(gate_launch, gate_given) == ([], {'stamped': True, 'use_sim_time': False})
    assert gate_launch.remappings(gate_given) == [
        ('cmd_vel_in', 'cmd_vel_smoothed'), ('cmd_vel', '/base/cmd_vel')]


@pytest.mark.ros
@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            {'cmd_vel_in': 'cmd_vel', 'cmd_vel_out': ''},
            'cmd_vel_in and cmd_vel_out are both cmd_vel',
        ),
        ({'params_file': 'typo.yaml'}, 'params_file: there is no file typo.yaml'),
    ],
)
def test_what_would_not_stop_the_robot_stops_the_launch(gate_launch, gate_given, change, said):
    gate_given.update(change)
    read = gate_launch.parameters if 'params_file' in change else gate_launch.remappings
    with pytest.raises(RuntimeError, match=f'^{said}'):
        read(gate_given)


def test_the_gates_parameter_file_is_its_table_at_its_defaults():
    text = (ROOT / 'config' / 'safety_stop.yaml').read_text()
    table = parameters.SAFETY_STOP_PARAMETERS
    assert text == yaml_file(table, 'safety_stop', 'ros/safety_stop/parameters')
    defaults = {parameter.name: parameter.default for parameter in table}
    assert yaml.safe_load(text) == {'/**': {'ros__parameters': defaults}}
    assert parameters.check_all(defaults) == defaults


def test_twist_mux_gets_a_lock_that_silence_closes_and_that_holds_every_topic_back():
    read = yaml.safe_load((ROOT / 'config' / 'twist_mux.yaml').read_text())
    parameters = read['/**']['ros__parameters']
    lock = parameters['locks']['ood_alert']
    assert lock['topic'] == 'ood_alert'
    # With 0, age would never be looked at; a whole number ends twist_mux.
    assert type(lock['timeout']) is float and lock['timeout'] > 0
    assert lock['priority'] == 255
    for topic in parameters['topics'].values():
        assert type(topic['timeout']) is float and topic['timeout'] > 0
        assert 0 < topic['priority'] < lock['priority']


# ------------------------------------------------------------------ a bag

REPLAY_LAUNCH = ROOT / 'launch' / 'replay.launch.py'
REPLAY_NAMES = (
    'bag', 'topic', 'rate', 'loop', 'start_offset', 'delay', 'everything', 'shutdown',
    'params_file', 'bundle', 'backend', 'device', 'trusted_packages', 'namespace', 'node_name',
    'log_level', 'rviz', 'rviz_config',
)


@pytest.fixture
def replay_launch(monkeypatch):
    return load_launch_file(REPLAY_LAUNCH, monkeypatch)


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

    source = PythonLaunchDescriptionSource(str(REPLAY_LAUNCH))
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
    ({'rate': '0'}, "rate: '0' is no number of at least 1e-06"),
    ({'rate': 'fast'}, "rate: 'fast' is no number"),
    ({'start_offset': '-1'}, "start_offset: '-1' is no number of at least 0"),
    ({'delay': 'nan'}, "delay: 'nan' is no number"),
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


# ------------------------------------------------------------------ RViz


def rviz_config() -> dict:
    return yaml.safe_load((ROOT / 'config' / 'monitor.rviz').read_text())


def rviz_displays() -> list[dict]:
    return rviz_config()['Visualization Manager']['Displays']


def rviz_topics() -> list[str]:
    return [display['Topic']['Value'] for display in rviz_displays()]


def test_rviz_shows_the_pictures_and_the_volume_and_offers_the_camera():
    displays = {d['Name']: d for d in rviz_displays()}
    assert {name: d['Class'].rpartition('/')[2] for name, d in displays.items()} == {
        'Overlay': 'Image', 'Activations': 'Image', 'Camera': 'Image',
        'Activation volume': 'PointCloud2',
    }
    assert {name: (d['Enabled'], d['Topic']['Value']) for name, d in displays.items()} == {
        'Overlay': (True, '/nav_monitor/overlay'),
        'Activations': (True, '/nav_monitor/activations'),
        'Camera': (False, '/camera/image_raw'),
        'Activation volume': (True, '/nav_monitor/activation_volume'),
    }


def test_rviz_asks_for_a_quality_of_service_that_is_offered():
    for display in rviz_displays():
        topic = display['Topic']
        assert topic['Durability Policy'] == 'Volatile'
        assert (topic['History Policy'], topic['Depth']) == ('Keep Last', 1)
        # The node's pictures are reliable; a camera may offer no more than best effort.
        wanted = 'Best Effort' if display['Name'] == 'Camera' else 'Reliable'
        assert topic['Reliability Policy'] == wanted


def test_every_panel_has_its_place_in_the_window():
    config = rviz_config()
    images = [d for d in rviz_displays() if d['Class'].endswith('/Image')]
    names = [panel['Name'] for panel in (*config['Panels'], *images)]
    state = bytes.fromhex(config['Window Geometry']['QMainWindow State'])
    for name in names:
        assert name.encode('utf-16-be') in state  # as Qt writes names
        assert config['Window Geometry'][name] == {'collapsed': False}


# ------------------------------------------------------------------ Foxglove


def test_the_foxglove_layout_shows_topics_that_the_node_has():
    layout = json.loads((ROOT / 'config' / 'monitor.foxglove.json').read_text())
    panels = layout['configById']

    def placed(part):
        return [part] if isinstance(part, str) else placed(part['first']) + placed(part['second'])

    assert sorted(placed(layout['layout'])) == sorted(panels)
    text = json.dumps(panels)
    for topic in ('/nav_monitor/overlay', '/nav_monitor/activations',
                  '/nav_monitor/activation_volume', '/nav_monitor/ood_score.data',
                  '/ood_alert.data'):
        assert f'"{topic}"' in text


# ------------------------------------------------------------------ Fast DDS

PROFILE = ROOT / 'config' / 'fastdds.xml'
SEGMENT = 32 * 2**20  # bytes
# Prints the size of the largest shared-memory segment that this process has from Fast DDS.
OWN_SEGMENT = """
import os, rclpy
rclpy.init()
node = rclpy.create_node('profile')
with open('/proc/self/maps') as maps:
    paths = {line.split()[-1] for line in maps if '/dev/shm/fast' in line}
print(max((os.stat(path).st_size for path in paths if os.path.exists(path)), default=0))
node.destroy_node()
rclpy.shutdown()
"""


def test_profile_uses_the_transports_that_it_describes_and_no_others():
    tree = ElementTree.fromstring(PROFILE.read_text())
    ns = {'d': 'http://www.eprosima.com'}
    described = {
        transport.findtext('d:transport_id', namespaces=ns): transport
        for transport in tree.findall('.//d:transport_descriptor', ns)
    }
    used = [element.text for element in tree.findall('.//d:userTransports/d:transport_id', ns)]
    assert used == list(described)
    kinds = {t.findtext('d:type', namespaces=ns): t for t in described.values()}
    assert set(kinds) == {'SHM', 'UDPv4'}
    assert int(kinds['SHM'].findtext('d:segment_size', namespaces=ns)) == SEGMENT
    [participant] = tree.findall('.//d:participant', ns)
    assert participant.get('is_default_profile') == 'true'
    assert participant.findtext('.//d:useBuiltinTransports', namespaces=ns) == 'false'


def run_with_profile(profile: Path | None) -> subprocess.CompletedProcess:
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
    env = {name: value for name, value in os.environ.items() if name not in names}
    if profile:
        env.update(dict.fromkeys(names, str(profile)))
    return subprocess.run(
        [sys.executable, '-c', OWN_SEGMENT], capture_output=True, text=True, timeout=120,
        env=env,
    )


@pytest.mark.ros
@pytest.mark.skipif(
    os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp',
    reason='another middleware')
def test_profile_gives_a_process_the_large_segment():
    pytest.importorskip('rclpy')
    default = run_with_profile(None)
    assert default.returncode == 0, default.stderr
    assert 0 < int(default.stdout) < SEGMENT / 4
    profiled = run_with_profile(PROFILE)
    assert profiled.returncode == 0, profiled.stderr
    assert 'XMLPARSER' not in profiled.stderr  # where Fast DDS says what it does not understand
    assert int(profiled.stdout) >= SEGMENT
