"""Two monitors in one process, executed by somebody else's executor."""

from __future__ import annotations

import itertools
import threading
import time

import moody
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from moody_feed import RELIABLE, START  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_harness import LATCHED, rgb_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

from nav_monitor_ros.ros.monitor.node import MonitorNode  # noqa: E402

pytestmark = pytest.mark.ros

PERIOD = 0.1  # of the heartbeat, seconds
NAMES = ('left', 'right')


def alert_topic(name):
    return f'/{name}/ood_alert'


class Program:
    """A program with two monitors and one executor."""

    def __init__(self, graph, bundle, **parameters):
        self.graph = graph
        for name in NAMES:
            graph.listen(Bool, alert_topic(name), LATCHED)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=graph.domain.number)
        given = {
            'bundle': str(bundle), 'trusted_packages': ['moody'], 'blank_contrast': 0.0,
            'frozen_timeout': 0.0, 'torch_threads': 1, **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.before = {*threading.enumerate()}
        self.nodes = {
            name: MonitorNode(
                'watch', namespace=name, context=self.context, parameter_overrides=overrides)
            for name in NAMES
        }
        self.executor = SingleThreadedExecutor(context=self.context)
        for node in self.nodes.values():
            self.executor.add_node(node)
        self._spinning = None

    def spin(self):
        def run():
            try:
                self.executor.spin()
            except ExternalShutdownException:
                pass

        self._spinning = threading.Thread(target=run, daemon=True)
        self._spinning.start()

    def feed(self):
        """Send images to both at 30 Hz."""
        node, normal = self.graph.node, itertools.cycle(moody.images(3, 500)[0])
        publishers = [node.create_publisher(Image, f'/{name}/image', RELIABLE) for name in NAMES]

        def tick():
            pixels = np.repeat(next(normal)[..., None], 3, axis=2)
            for publisher in publishers:
                publisher.publish(rgb_message(pixels, time.time_ns()))

        return node.create_timer(1 / 30, tick)

    def heard(self, name):
        return [message.data for message in self.graph.heard[alert_topic(name)]]

    def wait(self, name, value, timeout):
        self.graph.wait(
            lambda: self.heard(name) and self.heard(name)[-1] is value, timeout, f'{name} {value}')

    def own_threads(self):
        return [
            thread.name for thread in threading.enumerate()
            if thread not in self.before and thread.name.startswith('nav_monitor')
            and thread.name != 'nav_monitor log'  # ends with the process
        ]

    def stop(self):
        self.executor.shutdown(timeout_sec=5)
        for node in self.nodes.values():
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)
        if self._spinning is not None:
            self._spinning.join(10)


@pytest.fixture
def start(graph, moody_bundle):
    programs = []

    def make(**parameters):
        programs.append(Program(graph, moody_bundle, **parameters))
        return programs[-1]

    yield make
    for program in programs:
        program.stop()


def beats(program, name, seconds):
    """Return the longest gap between two alerts of a node during some time, seconds."""
    times = program.graph.times[alert_topic(name)]
    begin = len(times)
    time.sleep(seconds)
    new = times[begin:]
    assert len(new) > 0.5 * seconds / PERIOD, f'{name}: {len(new)} alerts in {seconds} s'
    return float(np.diff(new).max())


def test_the_alert_is_repeated_before_anybody_executes_the_nodes(start):
    program = start()
    for name in NAMES:
        program.wait(name, True, 10)
        assert beats(program, name, 2.0) < 5 * PERIOD
        assert all(program.heard(name))


def test_nodes_start_themselves_in_the_executor_and_a_blocked_one_silences_nobody(start):
    program = start()
    program.feed()
    program.spin()
    for name in NAMES:
        program.wait(name, False, START)
    blocked, release = threading.Event(), threading.Event()
    begin = {name: len(program.heard(name)) for name in NAMES}

    def block():
        timer.cancel()
        blocked.set()
        release.wait(30)

    timer = program.nodes['left'].create_timer(0.01, block)
    assert blocked.wait(10)
    for name in NAMES:  # no image is taken any more, and the heartbeat says so
        program.wait(name, True, 0.5 + 10 * PERIOD)
        assert beats(program, name, 1.5) < 5 * PERIOD
        told = program.heard(name)[begin[name]:]
        assert not any(told[:told.index(True)]) and all(told[told.index(True):])
    release.set()
    for name in NAMES:
        program.wait(name, False, 10)


def test_without_autostart_the_executor_starts_nothing(start):
    program = start(autostart=False)
    program.feed()
    program.spin()
    time.sleep(2.0)
    for name, node in program.nodes.items():
        assert node._state_machine.current_state[1] == 'unconfigured'
        assert all(program.heard(name))


def test_a_node_that_was_activated_by_hand_is_not_started_again(start):
    program = start()
    for node in program.nodes.values():
        node.trigger_configure()
    program.spin()
    time.sleep(1.0)
    assert {n._state_machine.current_state[1] for n in program.nodes.values()} == {'inactive'}


def test_a_destroyed_node_says_true_last_and_the_other_goes_on(start):
    program = start()
    program.feed()
    program.spin()
    for name in NAMES:
        program.wait(name, False, START)
    program.executor.remove_node(program.nodes['left'])
    begin = len(program.heard('right'))
    program.nodes.pop('left').destroy_node()
    program.wait('left', True, 5)
    said = len(program.heard('left'))
    assert beats(program, 'right', 2.0) < 5 * PERIOD
    assert not any(program.heard('right')[begin:])
    assert len(program.heard('left')) == said
    program.nodes['right'].announce_shutdown()  # True at once, and repeated until the end
    program.wait('right', True, 0.1 + 5 * PERIOD)
    program.stop()
    program.nodes.clear()
    assert program.own_threads() == []


def test_the_heartbeat_ends_with_ros(start):
    program = start(autostart=False)
    assert program.own_threads().count('nav_monitor heartbeat') == 2
    rclpy.shutdown(context=program.context)
    program.graph.wait(
        lambda: 'nav_monitor heartbeat' not in program.own_threads(), 5, 'the end of its thread')
