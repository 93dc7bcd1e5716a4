"""A ROS domain of one's own: locked, silent, on this host, free again after whatever end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.process import domain
from nav_monitor_ros.ros.process.domain import DOMAINS, is_silent, take_domain

pytestmark = pytest.mark.once

# Takes a domain, says which, and keeps it until it is ended.
HOLDER = """
import signal
from nav_monitor_ros.ros.process.domain import take_domain
domain = take_domain()
print(domain.number, flush=True)
signal.pause()
"""
# A node that knows nothing of locks.
NODE = """
import signal, rclpy
rclpy.init()
node = rclpy.create_node('stranger')
print('there', flush=True)
signal.pause()
"""


@pytest.fixture
def started():
    """Return a function that starts a program and waits for its first line."""
    running = []

    def start(code, **env):
        process = subprocess.Popen(
            [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **env}, cwd=Path(__file__).parents[2],
        )
        running.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_in_one_process_are_different():
    with take_domain() as first, take_domain() as second:
        assert first.number != second.number
        assert {first.number, second.number} <= set(DOMAINS)


def test_what_another_process_has_is_not_taken_until_it_ends(started):
    process, number = started(HOLDER)
    number = int(number)
    with pytest.raises(NavMonitorError, match='every ROS domain is in use'):
        take_domain([number])
    process.send_signal(signal.SIGKILL)
    process.wait()
    with take_domain([number]) as taken:
        assert taken.number == number


def test_a_closed_one_can_be_taken_again_and_is_not_the_next():
    with take_domain() as first:
        pass
    with take_domain() as second:
        assert second.number != first.number
        with take_domain([first.number]) as again:
            assert again.number == first.number
    first.close()  # twice does no harm


def test_the_lock_does_not_pass_to_children():
    """A node left over by a killed run must not keep its domain beyond its own end."""
    with take_domain() as taken:
        child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    try:
        with take_domain([taken.number]) as again:
            assert again.number == taken.number and child.poll() is None
    finally:
        child.communicate()


@pytest.mark.ros
@pytest.mark.parametrize('discovery', ['SUBNET', 'LOCALHOST'])
def test_a_domain_in_which_another_program_has_a_node_is_not_taken(started, discovery):
    pytest.importorskip('rclpy')
    with take_domain() as taken:
        number = taken.number
        assert is_silent(number)
    _, said = started(
        NODE, ROS_DOMAIN_ID=str(number), ROS_AUTOMATIC_DISCOVERY_RANGE=discovery)
    assert said == 'there' and not is_silent(number)
    with pytest.raises(NavMonitorError, match='every ROS domain is in use'):
        take_domain([number])
    with take_domain([number, *DOMAINS]) as other:
        assert other.number != number


def test_whoever_joins_it_is_discovered_on_this_host_only(monkeypatch):
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    monkeypatch.setenv('ROS_STATIC_PEERS', '192.0.2.1')
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    with take_domain() as taken:
        assert taken.environment == {
            'ROS_DOMAIN_ID': str(taken.number), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
        assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
        assert 'ROS_STATIC_PEERS' not in os.environ
        monkeypatch.setenv('ROS_DISTRO', 'humble')
        assert taken.environment['ROS_LOCALHOST_ONLY'] == '1'


def test_the_locks_of_another_user_can_be_tried(tmp_path, monkeypatch):
    """As in a folder for everybody: files that may be read, in a folder that others own."""
    monkeypatch.setattr(domain.tempfile, 'gettempdir', lambda: str(tmp_path))
    with take_domain() as taken:
        folder = tmp_path / 'nav_monitor_ros_domains'
        assert folder.stat().st_mode & 0o7777 == 0o1777
        path = folder / str(taken.number)
        assert path.stat().st_mode & 0o044 == 0o044
        with pytest.raises(NavMonitorError, match=str(folder)):
            take_domain([taken.number])
