"""safety_stop with a held terminal, a stopped process or a hanging subscriber."""

# ruff: noqa: F811 - a fixture that is imported

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import Twist  # noqa: E402
from held_terminal import terminal  # noqa: E402, F401
from ros_harness import values  # noqa: E402
from safety_stop_bench import SOON, START, AlertSource, Driver  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

pytestmark = pytest.mark.ros

# Hears the diagnostics and the log, reliably and from the start, and says so.
SUBSCRIBER = """
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
rclpy.init()
node = rclpy.create_node('hanging')
heard = set()
def note(message):
    before = len(heard)
    heard.add(type(message).__name__)
    if before < 2 == len(heard):
        print('heard', flush=True)
kept = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE,
                  durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_subscription(DiagnosticArray, '/diagnostics', note, 10)
node.create_subscription(Log, '/rosout', note, kept)
rclpy.spin(node)
"""


def test_a_held_terminal_delays_no_stop_and_releases_nothing_afterwards(graph, bench, terminal):
    source, _driver = AlertSource(graph, False), Driver(graph)
    bench.start(output=terminal.writer)
    bench.wait_sent(1.0, timeout=START)
    graph.wait(lambda: 'commands are forwarded' in terminal.read(), SOON, 'a log on the terminal')
    terminal.hold()
    source.value = True
    bench.wait_stop('alert')
    for value in (False, True, False, True):  # each is a line of the log
        source.value = value
        bench.wait_stopped(value)
    source.value = False
    bench.wait_sent(1.0)
    source.value = None
    bench.wait_stop('alert_silent')
    first = len(bench.sent)
    terminal.release()
    graph.wait(lambda: 'stopped: alert_silent' in terminal.read(), SOON, 'the lines that waited')
    assert set(bench.sent[first:]) <= {(0.0, 0.0)}
    source.value = False
    bench.wait_sent(1.0)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_with_a_held_terminal_the_last_thing_is_zero_and_the_process_ends(
    graph, bench, terminal, number
):
    AlertSource(graph, False)
    Driver(graph)
    bench.start(output=terminal.writer)
    bench.wait_sent(1.0, timeout=START)
    terminal.hold()
    bench.process.send_signal(number)
    assert bench.process.wait(SOON) == 0
    graph.wait(lambda: bench.sent[-1] == (0.0, 0.0), SOON, 'a last zero')
    bench.wait_stopped(True)


def test_nothing_passes_on_what_queued_while_the_gate_was_stopped(graph, bench, alert_process):
    """Alerts and commands wait in the middleware; those who sent them are gone when it goes on."""
    driver, alert = Driver(graph), alert_process()
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(signal.SIGSTOP)
    graph.listen(Bool, '/ood_alert')
    graph.wait(lambda: len(graph.alerts) > 10, SOON, 'ten alerts that wait')
    graph.wait(lambda: not bench.answers(1.0), SOON, 'what was on its way to have come')
    sent = len(bench.sent)
    alert.kill()
    alert.wait()
    bench.process.send_signal(signal.SIGCONT)
    graph.wait(lambda: 'stopped: gate_late' in bench.said(), SOON, 'the reason')
    bench.wait_stop()
    assert set(bench.sent[sent:]) == {(0.0, 0.0)}
    assert driver.x == 1.0  # commands came all the while
    graph.wait(lambda: int(values(bench.newest())['times_late']) > 0, SOON, 'the count')
    graph.wait(lambda: 'blocked for' in bench.said(), SOON, 'the line')
    alert_process()
    bench.wait_sent(1.0, timeout=START)


def test_a_command_that_queued_while_the_gate_was_stopped_is_old_however_late_alerts_may_be(
    graph, bench
):
    """The last False counts for ten seconds; the command that waits is older than its half."""
    AlertSource(graph, False)
    publisher = graph.driver.create_publisher(Twist, '/cmd_vel_in', 1)
    message = Twist()
    bench.start(alert_timeout=10.0, command_timeout=4.0)
    bench.wait_stopped(False)
    message.linear.x = 1.0
    graph.wait(
        lambda: publisher.publish(message) or (1.0, 0.0) in bench.sent, SOON, 'a first command')
    graph.wait(lambda: not bench.answers(0.5), SOON, 'what was on its way to have come')
    bench.process.send_signal(signal.SIGSTOP)
    message.linear.x = 2.0
    publisher.publish(message)
    time.sleep(2.5)  # more than half the timeout; the last velocity is older than the pause
    sent = len(bench.sent)
    bench.process.send_signal(signal.SIGCONT)
    graph.wait(lambda: 'stopped: gate_late' in bench.said(), SOON, 'the reason')
    graph.wait(lambda: len(bench.sent) > sent + 5, SOON, 'velocities')
    bench.wait_stopped(False)
    assert set(bench.sent[sent:]) == {(0.0, 0.0)}


def test_a_gate_that_was_stopped_for_long_begins_no_ramp_from_the_command_before(graph, bench):
    AlertSource(graph, False)
    Driver(graph)
    bench.start(stop_mode='ramp', linear_deceleration=0.1)
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(signal.SIGSTOP)
    graph.wait(lambda: not bench.answers(1.5), SOON, 'silence')
    sent = len(bench.sent)
    bench.process.send_signal(signal.SIGCONT)
    graph.wait(lambda: len(bench.sent) > sent, SOON, 'a velocity')
    assert bench.sent[sent] == (0.0, 0.0)
    bench.wait_sent(1.0)


def test_a_gate_that_was_stopped_for_long_goes_on_with_fresh_alerts(graph, bench):
    AlertSource(graph, False)
    Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(signal.SIGSTOP)
    graph.wait(lambda: not bench.answers(1.5), SOON, 'silence')
    sent = len(bench.sent)
    bench.process.send_signal(signal.SIGCONT)
    graph.wait(lambda: len(bench.sent) > sent, SOON, 'a velocity')
    assert bench.sent[sent] == (0.0, 0.0)
    bench.wait_sent(1.0)


def test_a_true_that_queued_while_the_gate_was_stopped_counts(graph, bench):
    source, _driver = AlertSource(graph, False), Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(signal.SIGSTOP)
    graph.wait(lambda: not bench.answers(1.0), SOON, 'silence')
    sent = len(bench.sent)
    source.value = True
    source.say()
    source.value = None
    bench.process.send_signal(signal.SIGCONT)
    bench.wait_stop()
    assert set(bench.sent[sent:]) == {(0.0, 0.0)}


def test_a_command_timeout_that_is_shortened_while_running_makes_no_gate_late(graph, bench):
    """The clock is then checked more often than at the rate that was enough before."""
    source = AlertSource(graph, None)
    bench.start(rate=2.0, alert_timeout=10.0, command_timeout=8.0)
    bench.wait_reason('no_alert_yet', START)
    [answer] = bench.set(command_timeout=0.9)  # late after 0.45 s, and the rate's period is 0.5 s
    assert answer.successful
    heard = len(graph.heard['/diagnostics'])
    graph.wait(lambda: len(graph.heard['/diagnostics']) > heard + 2, SOON, 'two more seconds')
    source.value = False  # once, so that no other event than the clock's runs the loop
    source.say()
    source.value = None
    bench.wait_reason('passing', timeout=8.0)


@pytest.mark.parametrize('attempt', range(3))
def test_no_command_passes_once_a_true_has_been_delivered(graph, bench, attempt):
    """Both wait while the gate is paused for less than the time after which all is stale."""
    source = AlertSource(graph, False)
    publisher = graph.driver.create_publisher(Twist, '/cmd_vel_in', 1)
    message = Twist()
    message.linear.x = 1.0
    # So that a busy machine's stalls are none to the gate.
    bench.start(alert_timeout=10.0, command_timeout=10.0)
    bench.wait_stopped(False)
    graph.wait(
        lambda: publisher.publish(message) or (1.0, 0.0) in bench.sent, SOON, 'a first command')
    graph.wait(lambda: not bench.answers(0.5), SOON, 'what was on its way to have come')
    bench.process.send_signal(signal.SIGSTOP)
    sent = len(bench.sent)
    source.value = True
    source.say()
    time.sleep(0.1)  # the middleware's threads stand still too: the two wait in the sockets
    publisher.publish(message)
    time.sleep(0.1)
    bench.process.send_signal(signal.SIGCONT)
    bench.wait_stop('alert')
    assert set(bench.sent[sent:]) == {(0.0, 0.0)}
    assert 'held up' not in bench.said()


def test_a_subscriber_of_the_diagnostics_and_the_log_that_hangs_delays_nothing(graph, bench):
    source, _driver = AlertSource(graph, False), Driver(graph)
    hanging = subprocess.Popen(
        [sys.executable, '-c', SUBSCRIBER],
        env={**os.environ, **graph.domain.environment}, stdout=subprocess.PIPE,
    )
    try:
        bench.start()
        bench.wait_sent(1.0, timeout=START)
        assert hanging.stdout.readline() == b'heard\n'
        hanging.send_signal(signal.SIGSTOP)
        delays = []
        for _ in range(12):  # more than the history of the diagnostics holds
            source.value = True
            since = time.monotonic()
            bench.wait_stopped(True)
            delays.append(time.monotonic() - since)
            source.value = False
            bench.wait_stopped(False)
        assert statistics.median(delays) < 1.0  # a machine that stalls may delay some of them
    finally:
        hanging.kill()
        hanging.wait()
