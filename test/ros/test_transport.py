"""Profiles of Fast DDS: the gate shares no memory, and nodes run no type lookup service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

from nav_monitor_ros.ros.process import transport  # noqa: E402
from nav_monitor_ros.ros.process.domain import take_domain  # noqa: E402

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(
        os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp',
        reason='another middleware'),
]

ROOT = Path(__file__).parents[2]
CHOICES = transport._CHOICES
NAMES = {'monitor': 'nav_monitor', 'camera': 'camera', 'safety_stop': 'safety_stop'}
PARTICIPANT = """
import sys, rclpy
from nav_monitor_ros.ros.process.transport import use_udp_only, uses_shared_memory
if sys.argv[1] == 'udp':
    use_udp_only()
rclpy.init()
node = rclpy.create_node('participant')
print(uses_shared_memory())
"""


def shared_segments(process):
    maps = Path(f'/proc/{process.pid}/maps').read_text()
    return [line for line in maps.splitlines() if '/dev/shm/fast' in line]


@pytest.mark.parametrize('discovery', ['LOCALHOST', 'SUBNET', None])
@pytest.mark.parametrize(('mode', 'shared'), [('default', 'True'), ('udp', 'False')])
def test_a_process_uses_shared_memory_or_udp_only(mode, shared, discovery):
    with take_domain() as domain:
        environment = {**os.environ, **domain.environment}
        for name in ('ROS_AUTOMATIC_DISCOVERY_RANGE', *CHOICES):
            environment.pop(name, None)
        if discovery:
            environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] = discovery
        done = subprocess.run(
            [sys.executable, '-c', PARTICIPANT, mode], env=environment, cwd=ROOT,
            capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == [shared], done.stderr
    assert 'XMLPARSER' not in done.stderr  # where Fast DDS reports what it does not understand


def test_the_gate_communicates_without_shared_memory(graph):
    gate = graph.start('safety_stop')
    alert = graph.driver.create_publisher(Bool, '/ood_alert', 1)
    commands = graph.driver.create_publisher(Twist, '/cmd_vel_in', 1)
    graph.listen(Twist, '/cmd_vel')
    graph.listen(DiagnosticArray, '/diagnostics')
    command = Twist()
    command.linear.x = 1.0

    def forwarded():
        alert.publish(Bool(data=False))
        commands.publish(command)
        return any(message.linear.x > 0 for message in graph.heard['/cmd_vel'])

    graph.wait(forwarded, 60, 'a command')
    assert shared_segments(gate) == []
    assert 'shared memory' not in gate.log.read_text()


def test_a_chosen_transport_is_kept_and_reported(graph):
    graph.listen(DiagnosticArray, '/diagnostics')
    gate = graph.start('safety_stop', env={'FASTDDS_BUILTIN_TRANSPORTS': 'DEFAULT'})
    graph.wait_diagnostic('gate', transport.SHARED_MEMORY, 60)
    assert shared_segments(gate) != []
    assert transport.SHARED_MEMORY in gate.log.read_text()


@pytest.mark.parametrize('name', ['camera', 'monitor', 'safety_stop'])
def test_a_node_runs_no_type_lookup_service(graph, name):
    """A thread of that service crashed nodes that ended just after they had started."""
    process = graph.start(name)
    graph.wait(lambda: NAMES[name] in graph.node.get_node_names(), 60, 'the node')
    names = Path(f'/proc/{process.pid}/task').glob('*/comm')
    threads = [name.read_text().strip() for name in names]
    assert any(thread.startswith('dds.') for thread in threads)
    assert not [thread for thread in threads if thread.startswith('dds.tls')]


def test_a_profile_in_the_working_folder_is_kept(monkeypatch, tmp_path):
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'DEFAULT_FASTDDS_PROFILES.xml').write_text('<dds/>')
    before = dict(os.environ)
    transport.use_udp_only()
    transport.disable_type_lookup()
    assert dict(os.environ) == before


@pytest.mark.parametrize('name', CHOICES)
def test_variables_of_the_user_are_kept(monkeypatch, name):
    for other in CHOICES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, 'mine')
    before = dict(os.environ)
    transport.use_udp_only()
    transport.disable_type_lookup()
    assert dict(os.environ) == before


@pytest.mark.parametrize(('distribution', 'variable'), [
    ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
    ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'), (None, 'FASTDDS_DEFAULT_PROFILES_FILE'),
])
def test_the_profile_is_given_by_the_distributions_variable(monkeypatch, distribution, variable):
    for name in (*CHOICES, 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY', 'ROS_DISTRO'):
        monkeypatch.setenv(name, '')  # so that it is restored
        monkeypatch.delenv(name)
    if distribution:
        monkeypatch.setenv('ROS_DISTRO', distribution)
    transport.use_udp_only()
    assert os.environ.pop(variable).endswith('config/fastdds_udp.xml')
    assert not any(name in os.environ for name in CHOICES)
    transport.disable_type_lookup()
    assert os.environ.pop(variable).endswith('config/fastdds_no_type_lookup.xml')
    monkeypatch.setenv('ROS_LOCALHOST_ONLY', '1')
    transport.use_udp_only()
    assert os.environ.pop(variable).endswith('config/fastdds_udp_localhost.xml')
    assert 'ROS_LOCALHOST_ONLY' not in os.environ
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'SYSTEM_DEFAULT'


@pytest.mark.parametrize('name', ['rmw_cyclonedds_cpp', 'rmw_connextdds', 'rmw_zenoh_cpp'])
def test_other_middleware_keeps_the_range_in_which_it_may_discover(monkeypatch, name):
    """It does not read the profile that restricts the discovery instead."""
    for other in CHOICES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('ROS_LOCALHOST_ONLY', '1')
    monkeypatch.setattr(transport, 'get_rmw_implementation_identifier', lambda: name)
    before = dict(os.environ)
    transport.use_udp_only()
    transport.disable_type_lookup()
    assert dict(os.environ) == before
