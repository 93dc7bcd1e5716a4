"""safety_stop as its own process: stamps, values and silence of the commands."""

from __future__ import annotations

import math
import time

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import TwistStamped  # noqa: E402
from ros_harness import stamp_ns, values  # noqa: E402
from rosgraph_msgs.msg import Clock as ClockMessage  # noqa: E402
from safety_stop_bench import SOON, START, AlertSource, Bench, Driver  # noqa: E402

pytestmark = pytest.mark.ros


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
    graph.wait(lambda: 'a command contains NaN or infinity' in bench.said(), SOON, 'the line')


def test_zero_is_sent_once_when_commands_stop_coming(graph, bench):
    AlertSource(graph, False)
    driver = Driver(graph)
    bench.start(alert_timeout=8.0, command_timeout=4.0)  # a busy machine stalls for less
    bench.wait_sent(1.0, timeout=START)
    driver.x = None
    bench.wait_sent(0.0)
    count = len(bench.sent)
    answered = len(graph.heard['/diagnostics'])
    graph.wait(lambda: len(graph.heard['/diagnostics']) > answered + 2, SOON, 'two more seconds')
    assert bench.sent[count - 1:] == [(0.0, 0.0)]
    driver.x = 1.0
    bench.wait_sent(1.0)


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
    bench.start(alert_timeout=8.0, command_timeout=5.0)
    bench.wait_stopped(False)
    bench.wait_reason('passing')
    wait_heard(bench, publisher)
    stale = 0
    for age, said in ((10.0, '10.0 s old'), (-10.0, '10.0 s in the future')):
        def is_logged(age=age, said=said):
            send_stamped(graph, publisher, age)  # again: one line is logged for those of a second
            return f'a command is {said} according to its stamp' in bench.said()

        graph.wait(is_logged, SOON, 'the line')
        status = graph.wait(
            lambda stale=stale: (found := bench.newest())
            and int(values(found)['commands_stale']) > stale and found, SOON, 'the count')
        stale = int(values(status)['commands_stale'])
        assert 'their stamps' in status.message
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
    bench.start(use_sim_time=True, alert_timeout=8.0, command_timeout=5.0)
    bench.wait_stopped(False)
    wait_heard(bench, publisher)
    send_stamped(graph, publisher, 0.0)  # no clock yet
    graph.wait(lambda: (1.0, 0.0) in bench.sent, SOON, 'a command before the first clock')

    def tick():
        message = ClockMessage()
        message.clock.sec = 100
        clock.publish(message)
        send_stamped(graph, publisher, 0.0)  # of another clock
        return 'in the future according to its stamp' in bench.said()

    graph.wait(tick, SOON, 'the line')
    message = TwistStamped()
    message.twist.linear.x = 2.0
    message.header.stamp.sec = 100
    publisher.publish(message)
    graph.wait(lambda: (2.0, 0.0) in bench.sent, SOON, 'a command of the same clock')
