"""safety_stop as its own process: what the alert, its silence and its loss do to commands."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from ros_harness import values  # noqa: E402
from safety_stop_bench import OFFERED, SOON, START, AlertSource, Driver  # noqa: E402

pytestmark = pytest.mark.ros


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
