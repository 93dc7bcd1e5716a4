"""The velocity gate's state machine: what passes, what stops, and how it slows down."""

from __future__ import annotations

import math

import pytest
from velocity_gates import FORWARD, RAMP, TIMEOUT, components, gate, open_gate

from nav_monitor_ros.decision.velocity_gate import ZERO, GateReason, GateRules, Velocity
from nav_monitor_ros.errors import NavMonitorError

# What passes.


def test_nothing_passes_before_the_first_alert():
    closed = gate()
    assert closed.command_received(FORWARD, 0.0) is None
    assert closed.update(100.0) is GateReason.NO_ALERT_YET
    assert closed.timer_fired(100.0) == ZERO


def test_commands_pass_unchanged_while_the_alert_is_false_and_fresh():
    opened = open_gate()
    assert opened.command_received(FORWARD, TIMEOUT) == FORWARD
    assert opened.timer_fired(TIMEOUT) is None  # nothing is repeated


def test_true_stops_at_once():
    opened = open_gate()
    opened.command_received(FORWARD, 0.1)
    opened.alert_received(True, 0.2)
    assert opened.update(0.2) is GateReason.ALERT
    assert opened.timer_fired(0.2) == ZERO
    assert opened.command_received(FORWARD, 0.2) is None


def test_silence_stops_once_it_is_longer_than_the_timeout():
    opened = open_gate()
    assert opened.update(TIMEOUT) is GateReason.PASSING
    assert opened.command_received(FORWARD, TIMEOUT + 1e-6) is None
    assert opened.update(TIMEOUT + 1e-6) is GateReason.ALERT_SILENT
    opened.alert_received(False, 2.0)
    assert opened.update(2.0) is GateReason.PASSING


def test_silence_after_a_true_is_silence():
    closed = gate()
    closed.alert_received(True, 0.0)
    assert closed.update(TIMEOUT) is GateReason.ALERT
    assert closed.update(TIMEOUT + 0.1) is GateReason.ALERT_SILENT


def test_a_true_outweighs_the_falses_of_other_publishers_for_the_timeout():
    opened = open_gate()
    opened.alert_received(True, 0.1)
    for now in (0.1, 0.2, 0.5, 0.6):
        opened.alert_received(False, now)
        assert opened.update(now) is GateReason.ALERT
    opened.alert_received(False, 0.7)
    assert opened.update(0.7) is GateReason.PASSING


def test_a_missed_deadline_stops_until_the_next_alert():
    opened = open_gate()
    opened.deadline_missed()
    assert opened.update(0.1) is GateReason.ALERT_DEADLINE_MISSED
    opened.alert_received(False, 0.2)
    assert opened.update(0.2) is GateReason.PASSING


def test_a_lost_publisher_stops_whatever_the_others_say():
    opened = open_gate()
    opened.liveliness_changed(lost=1)
    opened.alert_received(False, 0.1)
    assert opened.update(0.1) is GateReason.ALERT_LIVELINESS_LOST
    opened.liveliness_changed(lost=0)
    assert opened.update(0.2) is GateReason.PASSING


def test_a_clock_that_gives_no_number_stops():
    assert open_gate().update(math.nan) is not GateReason.PASSING


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('index', range(6))
def test_a_command_that_is_no_number_counts_as_zero(bad, index):
    values = [1.0] * 6
    values[index] = bad
    asked = Velocity(tuple(values[:3]), tuple(values[3:]))
    assert open_gate().command_received(asked, 0.1) == ZERO
    stopping = open_gate(**RAMP)
    stopping.command_received(FORWARD, 0.1)
    stopping.alert_received(True, 0.1)
    stopping.command_received(asked, 0.1)
    assert stopping.timer_fired(0.1) == ZERO


# Commands that stop coming.


def test_zero_is_sent_once_when_commands_stop_coming():
    opened = open_gate(command_timeout=0.3)
    opened.command_received(FORWARD, 0.0)
    assert opened.timer_fired(0.3) is None
    assert opened.timer_fired(0.31) == ZERO
    assert [opened.timer_fired(now) for now in (0.35, 0.4, 0.5)] == [None] * 3
    assert opened.command_received(FORWARD, 0.5) == FORWARD


def test_no_zero_is_sent_where_no_command_ever_came():
    assert open_gate(command_timeout=0.1).timer_fired(0.4) is None


def test_zeros_are_sent_as_long_as_the_alert_stops():
    closed = gate()
    closed.command_received(FORWARD, 0.0)
    assert [closed.timer_fired(float(now)) for now in range(100)] == [ZERO] * 100


def test_an_old_command_is_never_repeated_after_a_stop():
    opened = open_gate()
    opened.command_received(FORWARD, 0.1)
    opened.alert_received(True, 0.2)
    opened.timer_fired(0.2)
    opened.alert_received(False, 0.8)
    assert opened.update(0.8) is GateReason.PASSING
    assert opened.timer_fired(0.8) in (None, ZERO)


# The ramp.


def test_the_ramp_slows_each_component_in_its_own_direction():
    opened = open_gate(stop_mode='ramp', linear_deceleration=1.0, angular_deceleration=2.0)
    opened.command_received(Velocity((1.0, -0.2, 0.0), (0.0, 0.0, -1.0)), 0.1)
    opened.alert_received(True, 0.2)
    first = opened.timer_fired(0.2)
    assert components(first) == pytest.approx((1.0, -0.2, 0.0, 0.0, 0.0, -1.0))
    opened.alert_received(True, 0.4)
    assert components(opened.timer_fired(0.3)) == pytest.approx((0.9, -0.1, 0, 0, 0, -0.8))
    assert components(opened.timer_fired(0.6)) == pytest.approx((0.6, 0, 0, 0, 0, -0.2))
    assert opened.timer_fired(1.3) == ZERO


def test_the_ramp_starts_where_the_stop_is_seen_not_at_the_last_command():
    opened = open_gate(**RAMP)
    opened.command_received(FORWARD, 0.0)
    assert opened.timer_fired(TIMEOUT + 0.1).linear[0] == pytest.approx(1.0)
    assert opened.timer_fired(TIMEOUT + 0.2).linear[0] == pytest.approx(0.9)


def test_a_ramp_gives_way_to_a_slower_command_and_not_to_a_faster_one():
    opened = open_gate(**RAMP)
    opened.command_received(FORWARD, 0.1)
    opened.alert_received(True, 0.1)
    opened.timer_fired(0.1)
    assert opened.command_received(Velocity((5.0, 0.0, 0.0), (0.0, 0.0, 5.0)), 0.2) is None
    assert opened.timer_fired(0.2).linear[0] == pytest.approx(0.9)
    opened.command_received(Velocity((0.3, 0.0, 0.0), (0.0, 0.0, -1.0)), 0.2)
    assert components(opened.timer_fired(0.2)) == pytest.approx((0.3, 0, 0, 0, 0, 0))


def test_a_second_stop_ramps_from_the_command_before_it():
    opened = open_gate(**RAMP)
    opened.command_received(FORWARD, 0.0)
    opened.alert_received(True, 0.0)
    opened.timer_fired(10.0)
    opened.alert_received(False, 10.0)
    slow = Velocity((0.4, 0.0, 0.0))
    assert opened.command_received(slow, 10.0) == slow
    opened.alert_received(True, 10.1)
    assert opened.timer_fired(10.2).linear[0] <= 0.4
    assert opened.timer_fired(11.0) == ZERO


# The latch.


def test_a_latched_stop_stays_until_it_is_reset():
    opened = open_gate(latch=True)
    opened.alert_received(True, 0.1)
    assert opened.reset(0.1) is GateReason.ALERT
    opened.alert_received(False, 0.8)
    assert opened.update(0.8) is GateReason.LATCHED
    assert opened.command_received(FORWARD, 0.8) is None
    assert opened.timer_fired(0.8) == ZERO
    assert opened.reset(0.9) is GateReason.PASSING
    assert opened.command_received(FORWARD, 0.9) == FORWARD


@pytest.mark.parametrize(
    ('cause', 'reason'),
    [
        (lambda g: None, GateReason.ALERT_SILENT),
        (lambda g: g.deadline_missed(), GateReason.ALERT_DEADLINE_MISSED),
        (lambda g: g.liveliness_changed(1), GateReason.ALERT_LIVELINESS_LOST),
    ],
)
def test_every_kind_of_silence_latches_and_refuses_the_reset_while_it_lasts(cause, reason):
    opened = open_gate(latch=True)
    cause(opened)
    assert opened.reset(1.0) is reason
    opened.alert_received(False, 2.0)
    opened.liveliness_changed(0)
    assert opened.update(2.0) is GateReason.LATCHED
    assert opened.reset(2.0) is GateReason.PASSING


def test_the_start_is_latched_so_that_a_restart_releases_nothing():
    started = gate(latch=True)
    assert started.update(0.0) is GateReason.NO_ALERT_YET
    started.alert_received(False, 0.1)
    assert started.update(0.1) is GateReason.LATCHED


def test_without_latch_a_stop_ends_with_its_cause_and_reset_changes_nothing():
    opened = open_gate()
    assert opened.reset(0.1) is GateReason.PASSING
    opened.alert_received(True, 0.1)
    assert opened.reset(0.2) is GateReason.ALERT
    opened.alert_received(False, 0.9)
    assert opened.update(0.9) is GateReason.PASSING


def test_switching_the_latch_off_releases():
    opened = open_gate(latch=True)
    opened.alert_received(True, 0.0)
    opened.update(0.0)
    opened.alert_received(False, 1.0)
    assert opened.update(1.0) is GateReason.LATCHED
    opened.change_rules(latch=False)
    assert opened.update(1.0) is GateReason.PASSING


@pytest.mark.parametrize(
    'change',
    [{'alert_timeout': 0.0}, {'alert_timeout': math.nan}, {'command_timeout': -1.0},
     {'linear_deceleration': 0.0}, {'angular_deceleration': math.inf}, {'stop_mode': 'soft'}],
)
def test_rules_out_of_range_are_refused_by_name_and_nothing_changes(change):
    opened = gate()
    with pytest.raises(NavMonitorError, match=next(iter(change))):
        opened.change_rules(**change)
    assert opened.rules == GateRules(alert_timeout=TIMEOUT)
