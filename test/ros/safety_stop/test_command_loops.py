"""safety_stop whose commands return to it, directly or through other nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from ros_harness import values  # noqa: E402
from safety_stop_bench import SOON, START, TOLD, AlertSource  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ('remappings', 'names'),
    [
        (['cmd_vel_in:=/cmd_vel'], ('cmd_vel_in', 'cmd_vel', '/cmd_vel')),
        (['cmd_vel_in:=cmd_vel'], ('cmd_vel_in', 'cmd_vel', '/cmd_vel')),
        (['__ns:=/robot', 'cmd_vel_in:=/robot/cmd_vel'],
         ('cmd_vel_in', 'cmd_vel', '/robot/cmd_vel')),
        (['__ns:=/robot', '__node:=gate', 'cmd_vel_in:=~/v', 'cmd_vel:=/robot/gate/v'],
         ('cmd_vel_in', 'cmd_vel', '/robot/gate/v')),
        (['safety_stop:cmd_vel:=/x', '/cmd_vel_in:=/x'], ('cmd_vel_in', 'cmd_vel', '/x')),
        (['ood_alert:=safety_stop/stopped'],
         ('ood_alert', '~/stopped', '/safety_stop/stopped')),
        (['ood_alert:=cmd_vel'], ('cmd_vel', 'ood_alert', '/cmd_vel')),
    ],
)
def test_a_gate_that_would_hear_itself_ends_with_one_line(graph, bench, remappings, names):
    bench.start(*(word for remapping in remappings for word in ('-r', remapping)))
    assert bench.process.wait(START) == 1
    first, second, topic = names
    [line] = bench.said().splitlines()
    assert f'{first} and {second} are both {topic}' in line


# A relay, and a second gate: what leaves on cmd_vel comes back on cmd_vel_in.
RELAY = """
import sys, time, rclpy
from geometry_msgs.msg import Twist
rclpy.init()
node = rclpy.create_node('relay')
publisher = node.create_publisher(Twist, '/between', 100)
held = []
def hold(message):
    held.append((time.monotonic() + float(sys.argv[1]), message))
def give():
    while held and held[0][0] <= time.monotonic():
        publisher.publish(held.pop(0)[1])
node.create_subscription(Twist, '/cmd_vel', hold, 100)
node.create_timer(0.002, give)
back = rclpy.create_node('back')
returning = back.create_publisher(Twist, '/cmd_vel_in', 100)
back.create_subscription(Twist, '/between', returning.publish, 100)
from rclpy.executors import SingleThreadedExecutor
executor = SingleThreadedExecutor()
executor.add_node(node)
executor.add_node(back)
executor.spin()
"""


class OutsideDriver:
    """Commands 1 m/s at 20 Hz from a node that hears nothing; for a while."""

    def __init__(self, graph):
        self._graph = graph
        self._node = rclpy.create_node('outside_driver', context=graph.context)
        self._publisher = self._node.create_publisher(Twist, '/cmd_vel_in', 1)

    def drive(self, seconds, until=lambda: True, timeout=SOON):
        """Command for some seconds, and on until a condition holds, if it does in time."""
        begin = time.monotonic()
        message = Twist()
        message.linear.x, message.angular.z = 1.0, 0.5
        while (driven := time.monotonic() - begin) < seconds or (
            driven < timeout and not until()
        ):
            self._publisher.publish(message)
            time.sleep(0.05)

    def close(self):
        self._node.destroy_node()


@pytest.fixture
def outside_driver(graph):
    driver = OutsideDriver(graph)
    yield driver
    driver.close()


@pytest.mark.parametrize('delay', [0.0, 0.03, 0.3])
def test_a_command_that_comes_back_through_other_nodes_does_not_pass(
    graph, bench, outside_driver, delay
):
    AlertSource(graph, False)
    relay = subprocess.Popen(
        [sys.executable, '-c', RELAY, str(delay)],
        env={**os.environ, **graph.domain.environment})
    try:
        bench.start()
        path = '/cmd_vel -> /relay -> /between -> /back -> /cmd_vel_in'
        graph.wait(lambda: path in bench.said(), START, 'the loop to be found')
        if TOLD:
            bench.wait_stopped(False)
        outside_driver.drive(1.0, lambda: (1.0, 0.5) in bench.sent or not TOLD)
        wait_rest(graph, bench)
        status = bench.wait_reason(None)
        assert status.level == DiagnosticStatus.ERROR
        assert 'commands_come_back' in status.message
        assert '/relay' in values(status)['commands_may_return']
        assert int(values(status)['commands_came_back']) > 0
        if TOLD:
            assert (1.0, 0.5) in bench.sent
            assert 'commands from /back are refused' in status.message
        else:
            assert status.message.startswith('commands_come_back; ')
    finally:
        relay.kill()
        relay.wait()


@pytest.mark.parametrize(
    'renamed', ['__node:=other', '~/stopped:=/other_stopped'],
    ids=['two names', 'one name in two processes'],
)
def test_two_gates_in_a_ring_do_not_repeat_a_command_for_ever(
    graph, bench, outside_driver, renamed
):
    AlertSource(graph, False)
    bench.start()
    other = graph.start(
        'safety_stop', '-r', renamed, '-r', 'cmd_vel_in:=/cmd_vel', '-r', 'cmd_vel:=/cmd_vel_in')
    for said in (bench.said, other.log.read_text):
        graph.wait(lambda said=said: 'commands may return' in said(), START, 'the ring')
    if TOLD:
        bench.wait_stopped(False)
    outside_driver.drive(1.0, lambda: (1.0, 0.5) in bench.sent or not TOLD)
    assert ((1.0, 0.5) in bench.sent) is TOLD
    wait_rest(graph, bench)


def test_a_node_that_hears_the_gate_and_commands_it_is_refused_until_it_hears_no_more(
    graph, bench, stranger, outside_driver
):
    AlertSource(graph, False)
    publisher = stranger.create_publisher(Twist, '/cmd_vel_in', 1)
    ear = stranger.create_subscription(Twist, '/cmd_vel', lambda message: None, 1)
    bench.start()
    # A node may be found before its name is known; the path is then logged again with the name.
    path = 'commands may return: /cmd_vel -> /stranger -> /cmd_vel_in'
    graph.wait(lambda: path in bench.said(), START, 'the loop to be found')
    if TOLD:
        bench.wait_stopped(False)
    message = Twist()
    message.linear.x = 2.0

    def command():
        publisher.publish(message)
        return (2.0, 0.0) in bench.sent

    for _ in range(20):
        assert not command()
        time.sleep(0.02)
    if TOLD:
        outside_driver.drive(0.3)
        assert (1.0, 0.5) in bench.sent
    assert (2.0, 0.0) not in bench.sent
    stranger.destroy_subscription(ear)
    graph.wait(command, SOON, 'its commands to pass')
    assert bench.wait_reason('passing').level == DiagnosticStatus.OK


def wait_rest(graph, bench):
    """Wait until nothing but zero was sent for a second, if at all."""
    since = time.monotonic()

    def rests():
        nonlocal since
        now = time.monotonic()
        times = graph.times['/cmd_vel']
        recent = [v for v, t in zip(bench.sent, list(times), strict=False) if t > now - 1.0]
        if any(velocity != (0.0, 0.0) for velocity in recent):
            since = now
        return now - since > 1.0

    graph.wait(rests, 5.0, 'rest')
    assert bench.sent[-1] == (0.0, 0.0)
