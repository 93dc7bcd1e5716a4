"""The gate as its own process, over DDS: what the wheels get, whatever happens to the alert."""

# ruff: noqa: F811 - a fixture that is imported

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import Twist, TwistStamped  # noqa: E402
from held_terminal import terminal  # noqa: E402, F401
from rcl_interfaces.msg import Parameter, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.clock import Clock, ClockType  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from ros_harness import LATCHED, Graph, stamp_ns, values  # noqa: E402
from rosgraph_msgs.msg import Clock as ClockMessage  # noqa: E402
from std_msgs.msg import Bool, String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take to come up on a busy machine
SOON = 20.0  # seconds within which a stop or a release has to be seen there
TOLD = os.environ.get('ROS_DISTRO') not in ('humble', 'iron', 'jazzy')  # who commands
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
OFFERED = {
    'deadline': Duration(seconds=0.3),
    'liveliness': LivelinessPolicy.MANUAL_BY_TOPIC,
    'liveliness_lease_duration': Duration(seconds=0.5),
}  # what the monitor offers at its default rate
# An alert of its own process, to be killed or paused: False at 10 Hz.
PUBLISHER = """
import time, rclpy
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
rclpy.init()
node = rclpy.create_node('alert')
publisher = node.create_publisher(Bool, '/ood_alert', QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(seconds=0.3), liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=0.5)))
while True:
    publisher.publish(Bool(data=False))
    time.sleep(0.1)
"""
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


class AlertSource:
    """Publishes ``ood_alert`` at 10 Hz from the test itself."""

    def __init__(self, graph, value, **offered):
        self.value = value  # None: silence
        self.alive = False  # whether it says that it lives, although it is silent
        self._publisher = graph.node.create_publisher(
            Bool,
            '/ood_alert',
            QoSProfile(
                depth=1,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL,
                **offered,
            ),
        )
        self._timer = graph.node.create_timer(0.1, self.say, clock=STEADY)

    def say(self):
        if self.value is not None:
            self._publisher.publish(Bool(data=self.value))
        elif self.alive:
            self._publisher.assert_liveliness()


class Driver:
    """Commands a velocity at 20 Hz from the test itself."""

    def __init__(self, graph, x=1.0, z=0.5, *, kind=Twist):
        self.x, self.z = x, z  # x None: silence
        self._kind = kind
        self._publisher = graph.driver.create_publisher(kind, '/cmd_vel_in', 1)
        self._timer = graph.node.create_timer(0.05, self._tick, clock=STEADY)

    def _tick(self):
        if self.x is None:
            return
        message = self._kind()
        twist = message
        if self._kind is TwistStamped:
            message.header.frame_id, twist = 'base_link', message.twist
        twist.linear.x, twist.angular.z = self.x, self.z
        self._publisher.publish(message)


class Bench:
    """A gate, and what comes out of it."""

    def __init__(self, graph, kind=Twist):
        self.graph, self._kind = graph, kind
        graph.listen(kind, '/cmd_vel', 1)
        graph.listen(Bool, '/safety_stop/stopped', LATCHED)
        graph.listen(DiagnosticArray, '/diagnostics', QoSProfile(depth=10))

    def start(self, *arguments, output=None, **parameters):
        given = {'stamped': self._kind is TwistStamped, **parameters}
        settings = [
            argument for name, value in given.items()
            for argument in ('-p', f'{name}:={json.dumps(value)}')
        ]
        self.process = self.graph.start('safety_stop', *settings, *arguments, output=output)
        return self

    def said(self):
        """Return what the process has logged."""
        return self.process.log.read_text()

    @property
    def sent(self):
        """Return (x, z) of every velocity that came out, oldest first."""
        twists = [getattr(message, 'twist', message) for message in self.graph.heard['/cmd_vel']]
        return [(twist.linear.x, twist.angular.z) for twist in twists]

    def wait_sent(self, x, z=None, timeout=SOON):
        """Wait for a velocity that is sent from now on."""
        before = len(self.sent)
        z = 0.5 * x if z is None else z
        self.graph.wait(lambda: (x, z) in self.sent[before:], timeout, f'velocity {x}, {z}')

    def wait_reason(self, reason, timeout=SOON):
        """Wait until the newest diagnostics give this reason, or any; return them."""
        heard = self.graph.heard['/diagnostics']

        def look():
            for message in reversed(heard[-1:]):
                [status] = message.status  # nothing is wrong with the parameters
                assert status.name == '/safety_stop: gate'
                if reason in (None, status.message):
                    return status
            return None

        return self.graph.wait(look, timeout, f'reason {reason}')

    def newest(self):
        """Return the newest status of the gate, or nothing."""
        heard = self.graph.heard['/diagnostics']
        return heard[-1].status[0] if heard else None

    def answers(self, seconds):
        """Return whether anything came out within the last seconds."""
        times = self.graph.times['/cmd_vel']
        return bool(times) and time.monotonic() - times[-1] < seconds

    def wait_stop(self, reason=None):
        """Wait for the stop for a reason, or for any, and see that nothing but zero comes out."""
        self.wait_stopped(True)
        self.wait_reason(reason)
        self.wait_sent(0.0)
        first = len(self.sent)
        self.graph.wait(lambda: len(self.sent) >= first + 10, SOON, 'ten more velocities')
        assert set(self.sent[first:]) == {(0.0, 0.0)}

    def wait_stopped(self, value):
        heard = self.graph.heard['/safety_stop/stopped']
        self.graph.wait(
            lambda: heard and heard[-1].data is value, SOON, f'~/stopped {value}')

    def reset(self):
        answer = self.graph.call(Trigger, '/safety_stop/reset', Trigger.Request())
        return answer.success, answer.message

    def set(self, **changes):
        """Change float or text parameters of the running node; return the answers."""
        request = SetParameters.Request()
        for name, value in changes.items():
            held = (
                ParameterValue(type=3, double_value=value) if isinstance(value, float)
                else ParameterValue(type=4, string_value=value)
            )
            request.parameters.append(Parameter(name=name, value=held))
        return self.graph.call(SetParameters, '/safety_stop/set_parameters', request).results


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


@pytest.fixture
def bench(graph):
    return Bench(graph)


@pytest.fixture
def alert_process(graph):
    """Return a function that starts an alert in a process of its own."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, '-c', PUBLISHER],
            env={**os.environ, **graph.domain.environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_commands_pass_while_the_alert_is_false_and_stop_on_true(graph, bench):
    source, driver = AlertSource(graph, False, **OFFERED), Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.wait_stopped(False)
    assert bench.wait_reason('passing').level == DiagnosticStatus.OK
    driver.x, driver.z = -0.5, -0.25
    bench.wait_sent(-0.5)

    source.value = True
    bench.wait_stop('alert')
    assert values(bench.wait_reason('alert'))['stopped'] == 'true'

    source.value = False
    bench.wait_sent(-0.5)


def test_nothing_passes_before_the_first_alert(graph, bench):
    Driver(graph)
    bench.start()
    graph.wait(lambda: len(bench.sent) > 20, START, 'zeros from the start')
    assert set(bench.sent) == {(0.0, 0.0)}
    assert bench.wait_reason('no_alert_yet').level == DiagnosticStatus.STALE
    assert all(message.data for message in graph.heard['/safety_stop/stopped'])


@pytest.mark.parametrize(
    ('offered', 'reasons'),
    [
        ({}, {'alert_silent'}),
        (OFFERED, {'alert_silent', 'alert_deadline_missed', 'alert_liveliness_lost'}),
    ],
    ids=['plain publisher', 'publisher with deadline and liveliness'],
)
def test_silence_stops_and_the_next_false_releases(graph, bench, offered, reasons):
    source, _driver = AlertSource(graph, False, **offered), Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    source.value = None
    bench.wait_stop()
    graph.wait(lambda: bench.wait_reason(None).message in reasons, SOON, f'one of {reasons}')
    source.value = False
    bench.wait_sent(1.0)


@pytest.mark.parametrize(
    ('alive', 'reason'), [(True, 'alert_deadline_missed'), (False, 'alert_liveliness_lost')])
def test_the_middleware_tells_of_deadline_and_liveliness_where_they_are_offered(
    graph, bench, alive, reason
):
    source, _driver = AlertSource(graph, False, **OFFERED), Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    status = graph.wait(
        lambda: (found := bench.wait_reason(None))
        and values(found)['alert_publishers_alive'] == '1' and found,
        SOON, 'the watching subscription to be connected')
    assert values(status)['alert_publishers'] == '1'
    source.alive, source.value = alive, None
    bench.wait_stop(reason)
    source.value = False
    bench.wait_sent(1.0)


def test_an_alert_process_killed_stops_and_its_successor_releases(graph, bench, alert_process):
    Driver(graph)
    first = alert_process()
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    first.send_signal(signal.SIGKILL)
    bench.wait_stop()
    alert_process()
    # The dead one counts as lost until the middleware takes it out of the graph.
    bench.wait_sent(1.0, timeout=START)


def test_an_alert_process_paused_stops_and_goes_on_when_it_goes_on(graph, bench, alert_process):
    Driver(graph)
    process = alert_process()
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    process.send_signal(signal.SIGSTOP)
    bench.wait_stop()
    process.send_signal(signal.SIGCONT)
    bench.wait_sent(1.0)


def test_one_of_two_alerts_stops_whatever_the_other_says(graph, bench):
    first, second = AlertSource(graph, False), AlertSource(graph, False)
    Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    second.value = True
    bench.wait_stop('alert')
    second.value = False
    bench.wait_sent(1.0)
    assert first.value is False


def test_one_of_two_alerts_that_hangs_stops_whatever_the_other_says(graph, bench, alert_process):
    AlertSource(graph, False, **OFFERED)
    Driver(graph)
    process = alert_process()
    bench.start()
    graph.wait(
        lambda: values(bench.wait_reason(None, START)).get('alert_publishers_alive') == '2',
        START, 'both publishers to be watched')
    bench.wait_sent(1.0)
    process.send_signal(signal.SIGSTOP)
    bench.wait_stop('alert_liveliness_lost')
    process.send_signal(signal.SIGCONT)
    bench.wait_sent(1.0)


def test_an_old_false_that_is_kept_for_late_joiners_does_not_count(graph, bench):
    source = AlertSource(graph, None)
    source.value = False
    source.say()
    source.value = None
    Driver(graph)
    bench.start()
    graph.wait(
        lambda: values(bench.wait_reason(None, START)).get('alert_publishers') == '1', START,
        'the publisher to be discovered')
    bench.wait_stop('no_alert_yet')
    assert set(bench.sent) == {(0.0, 0.0)}


def test_a_latched_stop_waits_for_a_reset_that_is_refused_while_it_would_be_wrong(graph, bench):
    source, _driver = AlertSource(graph, False), Driver(graph)
    bench.start(latch=True)
    bench.wait_reason('latched', START)  # the start is a stop, too
    assert bench.reset() == (True, 'passing')
    bench.wait_sent(1.0)

    source.value = True
    bench.wait_stop('alert')
    assert bench.reset() == (False, 'alert')
    source.value = None
    bench.wait_reason('alert_silent')
    assert bench.reset() == (False, 'alert_silent')
    source.value = False
    bench.wait_stop('latched')
    assert bench.reset() == (True, 'passing')
    bench.wait_sent(1.0)


def test_a_ramp_slows_down_step_by_step(graph, bench):
    source, _driver = AlertSource(graph, False), Driver(graph, x=1.0, z=-0.5)
    bench.start(stop_mode='ramp', linear_deceleration=1.0, angular_deceleration=1.0)
    bench.wait_sent(1.0, -0.5, timeout=START)
    first = len(bench.sent)
    source.value = True
    bench.wait_stop('alert')
    sent = bench.sent[first:]
    assert (0.0, 0.0) in sent
    assert len({x for x, _ in sent if 0 < x < 1}) >= 3  # 20 in a second, on an idle machine
    assert all(new <= old for (old, _), (new, _) in zip(sent, sent[1:], strict=False))
    assert all(-0.5 <= old <= new <= 0 for (_, old), (_, new) in zip(sent, sent[1:], strict=False))


def test_stamped_commands_keep_their_frame_and_get_a_new_stamp(graph):
    bench = Bench(graph, TwistStamped)
    source, _driver = AlertSource(graph, False), Driver(graph, kind=TwistStamped)
    started = time.time_ns()
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    source.value = True
    bench.wait_stop('alert')
    messages = graph.heard['/cmd_vel']
    moving = [message for message in messages if message.twist.linear.x]
    for message in (moving[-1], messages[-1]):
        assert message.header.frame_id == 'base_link'
        assert started < stamp_ns(message.header) <= time.time_ns()


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_command_that_is_no_number_is_zero_and_is_logged(graph, bench, bad):
    AlertSource(graph, False)
    driver = Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    driver.z = bad
    bench.wait_sent(0.0)
    driver.z = 0.5
    bench.wait_sent(1.0)
    assert all(map(math.isfinite, (number for velocity in bench.sent for number in velocity)))
    assert 'a command holds NaN or infinity' in bench.process.log.read_text()


def test_zero_is_sent_once_when_commands_stop_coming(graph, bench):
    AlertSource(graph, False)
    driver = Driver(graph)
    bench.start(alert_timeout=5.0)
    bench.wait_sent(1.0, timeout=START)
    driver.x = None
    bench.wait_sent(0.0)
    count = len(bench.sent)
    answered = len(graph.heard['/diagnostics'])
    graph.wait(lambda: len(graph.heard['/diagnostics']) > answered + 2, SOON, 'two more seconds')
    assert bench.sent[count - 1:] == [(0.0, 0.0)]
    driver.x = 1.0
    bench.wait_sent(1.0)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_last_thing_that_is_sent_is_zero(graph, bench, number):
    AlertSource(graph, False)
    Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(number)
    assert bench.process.wait(SOON) == 0
    graph.wait(lambda: bench.sent[-1] == (0.0, 0.0), SOON, 'a last zero')
    assert graph.heard['/safety_stop/stopped'][-1].data is True


def test_what_is_offered_on_stopped_lets_others_see_its_death(graph, bench):
    bench.start()
    graph.wait(lambda: graph.heard['/safety_stop/stopped'], START, '~/stopped')
    [info] = graph.node.get_publishers_info_by_topic('/safety_stop/stopped')
    offered = info.qos_profile
    assert offered.reliability == ReliabilityPolicy.RELIABLE
    assert offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert offered.deadline == Duration(seconds=3 / 20)
    assert offered.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    assert offered.liveliness_lease_duration == Duration(seconds=5 / 20)


def test_parameters_are_checked_while_running(graph, bench):
    bench.start()
    bench.wait_reason('no_alert_yet', START)
    answers = bench.set(stop_mode='soft', command_timeout=-1.0, alert_timeout=1.0)
    assert not any(answer.successful for answer in answers)
    assert 'stop_mode' in answers[0].reason and 'command_timeout' in answers[1].reason
    assert all(answer.successful for answer in bench.set(stop_mode='ramp', command_timeout=1.0))
    graph.wait(
        lambda: values(bench.wait_reason('no_alert_yet'))['stop_mode'] == 'ramp', SOON, 'a ramp')


def test_a_parameter_out_of_range_ends_the_process_with_one_line(graph, bench):
    bench.start(alert_timeout=0.0)
    assert bench.process.wait(START) == 1
    said = bench.process.log.read_text()
    assert 'parameter alert_timeout is 0.0; it must be 0.05 to 10' in said
    assert 'Traceback' not in said


# Acting before logging, and what waits while the gate is held up.


def test_a_held_terminal_delays_no_stop_and_releases_nothing_afterwards(graph, bench, terminal):
    source, _driver = AlertSource(graph, False), Driver(graph)
    bench.start(output=terminal.writer)
    bench.wait_sent(1.0, timeout=START)
    graph.wait(lambda: 'commands pass' in terminal.read(), SOON, 'a log on the terminal')
    terminal.hold()
    source.value = True
    said = time.monotonic()
    bench.wait_sent(0.0)
    assert time.monotonic() - said < 1.0
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
    assert graph.heard['/safety_stop/stopped'][-1].data is True


def test_nothing_passes_on_what_queued_while_the_gate_was_stopped(graph, bench, alert_process):
    """Alerts and commands wait in the middleware; those who sent them are gone when it goes on."""
    driver, alert = Driver(graph), alert_process()
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(signal.SIGSTOP)
    sent = len(bench.sent)
    graph.listen(Bool, '/ood_alert')
    graph.wait(lambda: len(graph.alerts) > 10, SOON, 'ten alerts that wait')
    alert.kill()
    alert.wait()
    bench.process.send_signal(signal.SIGCONT)
    graph.wait(lambda: 'stopped: gate_late' in bench.said(), SOON, 'the reason')
    bench.wait_stop()
    assert set(bench.sent[sent:]) == {(0.0, 0.0)}
    assert driver.x == 1.0  # commands came all the while
    graph.wait(lambda: values(bench.newest())['times_late'] == '1', SOON, 'the count')
    assert 'held up for' in bench.said()
    alert_process()
    bench.wait_sent(1.0, timeout=START)


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


@pytest.mark.parametrize('attempt', range(3))
def test_no_command_passes_once_a_true_has_been_delivered(graph, bench, attempt):
    """Both wait while the gate is paused for less than the time after which all is stale."""
    source = AlertSource(graph, False)
    publisher = graph.driver.create_publisher(Twist, '/cmd_vel_in', 1)
    message = Twist()
    message.linear.x = 1.0
    bench.start(alert_timeout=10.0)  # so that a busy machine's stalls are none to the gate
    bench.wait_stopped(False)
    publisher.publish(message)
    bench.wait_sent(1.0, 0.0)
    bench.process.send_signal(signal.SIGSTOP)
    sent = len(bench.sent)
    source.value = True
    source.say()
    time.sleep(0.1)
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
        for _ in range(12):  # more than the history of the diagnostics holds
            source.value = True
            since = time.monotonic()
            bench.wait_stopped(True)
            assert time.monotonic() - since < 1.0
            source.value = False
            bench.wait_stopped(False)
    finally:
        hanging.kill()
        hanging.wait()


def wait_heard(bench, publisher):
    """Wait until the gate hears this publisher of commands: what is sent before is lost."""
    bench.graph.wait(
        lambda: publisher.get_subscription_count() and (found := bench.newest())
        and values(found)['commands_publishers'] == '1', START, 'the gate to hear commands')


def send_stamped(graph, publisher, age):
    message = TwistStamped()
    message.twist.linear.x = 1.0
    if age is not None:
        made = time.time_ns() - int(age * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(made, 10**9)
    publisher.publish(message)


def test_commands_that_are_old_or_of_the_future_by_their_stamp_are_discarded(graph):
    bench = Bench(graph, TwistStamped)
    AlertSource(graph, False)
    publisher = graph.driver.create_publisher(TwistStamped, '/cmd_vel_in', 1)
    bench.start(alert_timeout=4.0, command_timeout=2.0)
    bench.wait_stopped(False)
    bench.wait_reason('passing')
    wait_heard(bench, publisher)
    stale = 0
    for age, said in ((10.0, '10.0 s old'), (-10.0, '10.0 s in the future')):
        def is_logged(age=age, said=said):
            send_stamped(graph, publisher, age)  # again: one line is logged for those of a second
            return f'a command is {said} by its stamp' in bench.said()

        graph.wait(is_logged, SOON, 'the line')
        status = graph.wait(
            lambda stale=stale: (found := bench.newest())
            and int(values(found)['commands_stale']) > stale and found, SOON, 'the count')
        stale = int(values(status)['commands_stale'])
        assert 'by their stamp' in status.message
        assert status.level == DiagnosticStatus.WARN
        assert (1.0, 0.0) not in bench.sent
    for age in (None, 0.0, 0.2):
        sent = len(bench.sent)
        send_stamped(graph, publisher, age)
        bench.graph.wait(lambda sent=sent: (1.0, 0.0) in bench.sent[sent:], SOON, f'age {age}')
    assert bench.wait_reason('passing').level == DiagnosticStatus.OK


def test_by_simulated_time_stamps_are_compared_with_the_clock_once_there_is_one(graph):
    bench = Bench(graph, TwistStamped)
    AlertSource(graph, False)
    publisher = graph.driver.create_publisher(TwistStamped, '/cmd_vel_in', 1)
    clock = graph.node.create_publisher(ClockMessage, '/clock', 1)
    bench.start(use_sim_time=True, alert_timeout=4.0)
    bench.wait_stopped(False)
    wait_heard(bench, publisher)
    send_stamped(graph, publisher, 0.0)  # no clock yet
    graph.wait(lambda: (1.0, 0.0) in bench.sent, SOON, 'a command before the first clock')

    def tick():
        message = ClockMessage()
        message.clock.sec = 100
        clock.publish(message)
        send_stamped(graph, publisher, 0.0)  # of another clock
        return 'in the future by its stamp' in bench.said()

    graph.wait(tick, SOON, 'the line')
    message = TwistStamped()
    message.twist.linear.x = 2.0
    message.header.stamp.sec = 100
    publisher.publish(message)
    graph.wait(lambda: (2.0, 0.0) in bench.sent, SOON, 'a command of the same clock')


# Hearing itself.


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
        graph.wait(lambda: 'commands may come back' in bench.said(), START, 'the loop to be found')
        assert '/cmd_vel -> /relay -> /between -> /back -> /cmd_vel_in' in bench.said()
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


def test_two_gates_in_a_ring_do_not_repeat_a_command_for_ever(graph, bench, outside_driver):
    AlertSource(graph, False)
    bench.start()
    other = graph.start(
        'safety_stop', '-r', '__node:=other', '-r', 'cmd_vel_in:=/cmd_vel',
        '-r', 'cmd_vel:=/cmd_vel_in')
    for said in (bench.said, other.log.read_text):
        graph.wait(lambda said=said: 'commands may come back' in said(), START, 'the ring')
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
    graph.wait(lambda: 'commands may come back' in bench.said(), START, 'the loop to be found')
    assert '/cmd_vel -> /stranger -> /cmd_vel_in' in bench.said()
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


# Who is not heard.


@pytest.fixture
def stranger(graph):
    """Return a node of another participant, which may give a topic another type."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=graph.domain.number)
    node = rclpy.create_node('stranger', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_commands_of_the_other_type_are_named_with_their_remedy(graph, bench):
    AlertSource(graph, False)
    Driver(graph, kind=TwistStamped)
    bench.start()
    expected = (
        '/driver publishes /cmd_vel_in as geometry_msgs/msg/TwistStamped, not '
        'geometry_msgs/msg/Twist: set stamped:=true'
    )
    status = graph.wait(
        lambda: (found := bench.newest()) and expected in found.message and found, START, expected)
    assert status.level == DiagnosticStatus.ERROR
    assert values(status)['commands_publishers'] == '0'
    seen = len(graph.heard['/diagnostics'])
    graph.wait(lambda: len(graph.heard['/diagnostics']) > seen + 2, SOON, 'more diagnostics')
    assert bench.said().count(expected) == 1


def test_stamped_commands_are_asked_for_where_plain_ones_come(graph):
    bench = Bench(graph, TwistStamped)
    Driver(graph, kind=Twist)
    bench.start()
    graph.wait(
        lambda: (found := bench.newest()) and 'set stamped:=false' in found.message, START,
        'the remedy')


def test_a_wrong_type_beside_a_right_one_is_a_warning_and_goes_when_it_is_gone(
    graph, bench, stranger
):
    AlertSource(graph, False)
    Driver(graph)
    wrong = stranger.create_publisher(String, '/cmd_vel_in', 1)
    bench.start()
    status = graph.wait(
        lambda: (found := bench.newest()) and 'std_msgs/msg/String' in found.message and found,
        START, 'the type')
    assert status.level == DiagnosticStatus.WARN
    assert 'remap cmd_vel_in or cmd_vel' in status.message
    bench.wait_sent(1.0)
    stranger.destroy_publisher(wrong)
    assert bench.wait_reason('passing').level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    ('kind', 'reliability', 'expected'),
    [
        (String, ReliabilityPolicy.RELIABLE,
         'publishes /ood_alert as std_msgs/msg/String, not std_msgs/msg/Bool: remap ood_alert'),
        (Bool, ReliabilityPolicy.BEST_EFFORT,
         'publishes /ood_alert with another quality of service'),
    ],
)
def test_an_alert_that_cannot_be_heard_is_named(graph, bench, kind, reliability, expected):
    graph.node.create_publisher(kind, '/ood_alert', QoSProfile(depth=1, reliability=reliability))
    Driver(graph)
    bench.start()
    status = graph.wait(
        lambda: (found := bench.newest()) and expected in found.message and found, START, expected)
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.startswith('no_alert_yet; ')
    graph.wait(lambda: expected in bench.said(), SOON, 'a line of the log')


def test_commands_of_a_best_effort_publisher_and_a_base_that_hears_nothing_are_named(
    graph, bench, stranger
):
    graph.node.create_publisher(
        Twist, '/cmd_vel_in', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    stranger.create_subscription(TwistStamped, '/cmd_vel', print, 1)
    graph.node.create_subscription(Twist, '/cmd_vel', print, QoSProfile(
        depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    bench.start()
    status = graph.wait(
        lambda: (found := bench.newest())
        and found.message.count('with another quality of service') == 2 and found,
        START, 'all three')
    assert 'Best effort publisher and reliable subscription' in status.message
    assert '/stranger subscribes to /cmd_vel as geometry_msgs/msg/TwistStamped' in status.message
    assert 'subscribes to /cmd_vel with another quality of service' in status.message


def test_without_anybody_the_diagnostics_say_who_is_missing(graph, bench):
    bench.start()
    status = bench.wait_reason('no_alert_yet', START)
    assert values(status)['detail'] == (
        'nobody publishes /ood_alert: start the monitor or remap ood_alert; '
        'nobody publishes /cmd_vel_in: start who commands or remap cmd_vel_in'
    )
