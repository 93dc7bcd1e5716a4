"""safety_stop as its own process: parameters, what it offers, and how it ends."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip('rclpy')

from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import (
    DurabilityPolicy,  # noqa: E402
    LivelinessPolicy,  # noqa: E402
    ReliabilityPolicy,  # noqa: E402
)
from ros_harness import values  # noqa: E402
from safety_stop_bench import SOON, START, AlertSource, Driver  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_last_thing_that_is_sent_is_zero(graph, bench, number):
    AlertSource(graph, False)
    Driver(graph)
    bench.start()
    bench.wait_sent(1.0, timeout=START)
    bench.process.send_signal(number)
    assert bench.process.wait(SOON) == 0
    graph.wait(lambda: bench.sent[-1] == (0.0, 0.0), SOON, 'a last zero')
    bench.wait_stopped(True)


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
