"""The gate as its own process, over DDS: what the wheels get, whatever happens to the alert."""

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

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import Twist, TwistStamped  # noqa: E402
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
from std_msgs.msg import Bool  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take to come up on a busy machine
SOON = 20.0  # seconds within which a stop or a release has to be seen there
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
        self._publisher = graph.node.create_publisher(kind, '/cmd_vel_in', 1)
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

    def start(self, **parameters):
        given = {'stamped': self._kind is TwistStamped, **parameters}
        arguments = [
            argument for name, value in given.items()
            for argument in ('-p', f'{name}:={json.dumps(value)}')
        ]
        self.process = self.graph.start('safety_stop', *arguments)
        return self

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
                [status] = message.status
                assert status.name == '/safety_stop: gate'
                if reason in (None, status.message):
                    return status
            return None

        return self.graph.wait(look, timeout, f'reason {reason}')

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
