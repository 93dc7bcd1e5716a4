"""What a message from outside does to rclpy's own callbacks ends no node, unless it goes on."""

from __future__ import annotations

import time

import pytest

pytest.importorskip('rclpy')

from rclpy.clock import Clock, ClockType  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from ros_harness import Graph  # noqa: E402
from rosgraph_msgs.msg import Clock as ClockMessage  # noqa: E402

from nav_monitor_ros.ros.process.spinning import MOST_FAILURES, Failures, spin_until  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take on a busy machine
SAID = 'ROS dropped a message or request that it could not handle: ValueError'
ARGUMENTS = {
    'safety_stop': (),
    'camera': ('-p', 'source:=sample:digits'),
    'monitor': ('-p', 'bundle:=digits', '-p', 'autostart:=false'),
}


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


@pytest.mark.parametrize('name', ARGUMENTS)
def test_a_clock_that_ros_cannot_take_ends_no_node_unless_it_goes_on(graph, name):
    process = graph.start(name, *ARGUMENTS[name], '-p', 'use_sim_time:=true')
    clock = graph.node.create_publisher(ClockMessage, '/clock', 1)
    graph.wait(lambda: clock.get_subscription_count() == 1, START, 'a subscriber of the clock')
    wrong = ClockMessage()
    wrong.clock.sec = -1

    def said():
        clock.publish(wrong)
        time.sleep(0.3)  # a few of them, while discovery ends; far fewer than the most
        return SAID in process.log.read_text()

    graph.wait(said, START, 'the line')
    assert process.poll() is None
    right = ClockMessage()
    right.clock.sec = 1
    clock.publish(right)

    def ended():
        clock.publish(wrong)
        time.sleep(0.05)
        return process.poll() is not None

    graph.wait(ended, START, 'the end')
    assert process.returncode == 70
    text = process.log.read_text()
    assert text.count(SAID) == 1
    assert 'failed: ValueError' in text


class Lines(list):
    """Takes what is logged."""

    def error(self, text):
        self.append(text)


def raise_from_rclpy(text='of a message'):
    """Raise as a callback of rclpy's own does; see below for one of this package."""
    raise ValueError(text)


@pytest.fixture
def executor(graph):
    node = Node('spun', context=graph.context)
    executor = SingleThreadedExecutor(context=graph.context)
    executor.add_node(node)
    yield executor
    executor.shutdown()
    node.destroy_node()


def every(executor, seconds, callback):
    [node] = executor.get_nodes()
    node.create_timer(seconds, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def test_each_kind_is_logged_once_and_the_most_are_outlived(executor):
    raised = []

    def fail():
        raised.append(f'kind {len(raised) % 2}')
        raise_from_rclpy(raised[-1])

    every(executor, 0.005, fail)
    lines = Lines()
    with pytest.raises(ValueError, match='kind 0'):
        spin_until(lambda: False, lambda: executor.spin_once(timeout_sec=0.1), Failures(lines))
    assert len(raised) == MOST_FAILURES + 1
    assert [line.rpartition(': ')[2] for line in lines] == ['kind 0', 'kind 1']


def test_an_exception_of_this_packages_own_code_is_never_outlived(executor):
    failures = Failures(Lines())

    def fail():  # Failures.outlives reads the traceback, so that None is an AttributeError of ours
        failures.outlives(None)

    every(executor, 0.005, fail)
    with pytest.raises(AttributeError, match='__traceback__'):
        spin_until(lambda: False, lambda: executor.spin_once(timeout_sec=0.1), failures)
