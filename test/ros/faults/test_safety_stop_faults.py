"""Faults of safety_stop itself: the wheels stop in time, and no old message moves them."""

# ruff: noqa: F811 - a fixture that is imported
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from fault_robot import RELIABLE, SLACK, START, Robot  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from held_terminal import terminal  # noqa: E402, F401

pytestmark = pytest.mark.ros

# Gives back on cmd_vel_in what leaves on cmd_vel.
RELAY = """
import rclpy
from geometry_msgs.msg import Twist
rclpy.init()
node = rclpy.create_node('relay')
publisher = node.create_publisher(Twist, '/cmd_vel_in', 1)
node.create_subscription(Twist, '/cmd_vel', publisher.publish, 1)
rclpy.spin(node)
"""


def test_the_terminal_is_held_and_the_monitor_falls_silent(graph, moody_bundle, terminal):
    robot = Robot(graph, moody_bundle, output=terminal.writer)
    robot.drives()
    terminal.hold()
    robot.stands(
        f'out-of-distribution images while the {terminal.held}', ['ood'], 0.5,
        lambda: robot.feed.play(robot.feed.strange),
    )
    robot.stays_stopped(1.0)
    robot.recovers('normal images', lambda: robot.feed.play(robot.feed.normal))
    robot.stands(
        f'monitor suspended (SIGSTOP) while the {terminal.held}', [], 0.5,
        lambda: robot.monitor.send_signal(signal.SIGSTOP), silent=True,
    )
    robot.stays_still(2.0)
    terminal.release()
    robot.stays_still(1.0)  # no False that waited behind the terminal
    robot.recovers('monitor resumed (SIGCONT)', lambda: robot.monitor.send_signal(signal.SIGCONT))


@pytest.mark.parametrize('seconds', [0.6, 5.0])
def test_the_gate_is_stopped_while_the_monitor_falls_silent(graph, moody_bundle, seconds):
    """What was said before waits for it in the middleware, and is not to move anything."""
    robot = Robot(graph, moody_bundle)
    robot.drives()
    robot.gate.send_signal(signal.SIGSTOP)
    time.sleep(seconds)  # alerts and commands queue all the while
    robot.monitor.send_signal(signal.SIGSTOP)
    robot.gate_stands(
        f'safety_stop suspended (SIGSTOP) for {seconds:g} s, then the monitor suspended, then '
        'safety_stop resumed (SIGCONT)', 'gate_late', 0.1,
        lambda: robot.gate.send_signal(signal.SIGCONT),
    )
    robot.stays_still(1.5)
    robot.recovers(
        'monitor resumed (SIGCONT)', lambda: robot.monitor.send_signal(signal.SIGCONT)
    )


def test_the_gate_is_stopped_and_continued(graph, moody_bundle):
    robot = Robot(graph, moody_bundle)
    robot.drives()
    robot.gate.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    robot.gate_stands(
        'safety_stop suspended (SIGSTOP) for 1 s, then resumed (SIGCONT)', 'gate_late', 0.1,
        lambda: robot.gate.send_signal(signal.SIGCONT),
    )
    robot.recovers('on its own')


def test_a_relay_brings_the_commands_back(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, drive=False)
    commander = rclpy.create_node('commander', context=graph.context)
    publisher = commander.create_publisher(Twist, '/cmd_vel_in', RELIABLE)
    relay = subprocess.Popen(
        [sys.executable, '-c', RELAY], env={**os.environ, **graph.domain.environment})
    forward = Twist()
    forward.linear.x = 1.0
    driving = [True]

    def drive():
        if driving[0]:
            publisher.publish(forward)

    timer = graph.node.create_timer(1 / 20, drive)
    try:
        graph.wait(
            lambda: 'commands may return' in robot.gate.log.read_text(), START, 'the loop')
        # The gate may still be closed, and the wheels at rest.
        first = len(graph.heard['/cmd_vel'])
        graph.wait(
            lambda: [m.linear.x for m in graph.heard['/cmd_vel'][first:]][-10:] == [1.0] * 10,
            START, 'the wheels to turn')
        robot.gate_stands(
            'a relay feeds commands back to safety_stop, and the source of the commands stops '
            'publishing', None, 0.6, lambda: driving.__setitem__(0, False),
        )
        robot.stays_still(1.0)
        robot.recovers('commands resume', lambda: driving.__setitem__(0, True))
    finally:
        relay.kill()
        relay.wait()
        graph.node.destroy_timer(timer)
        commander.destroy_node()


def test_the_gate_is_asked_to_end_by_a_burst_of_signals(graph, moody_bundle):
    robot = Robot(graph, moody_bundle)
    robot.drives()

    def burst():
        while robot.gate.poll() is None:
            robot.gate.send_signal(signal.SIGTERM)
            time.sleep(0.0002)

    robot.gate_stands('safety_stop receives SIGTERM repeatedly', None, 0.2, burst)
    # By the signal itself where it fell into the interpreter's own end, after everything.
    assert robot.gate.returncode in (0, -signal.SIGTERM)
    graph.wait(lambda: graph.heard['/cmd_vel'][-1].linear.x == 0, SLACK, 'a last zero')
    robot.recovers('safety_stop started again', robot.start_gate)
