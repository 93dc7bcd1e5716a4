"""What the velocity gate makes of old messages and of pauses of the loop that calls it."""

from __future__ import annotations

import math

import pytest
from velocity_gates import FORWARD, RAMP, TIMEOUT, components, gate, open_gate

from nav_monitor_ros.decision.velocity_gate import ZERO, GateReason, GateRules, VelocityGate


def test_a_false_counts_from_when_it_came():
    opened = gate()
    opened.alert_received(False, 10.0, age=0.4)
    assert opened.update(10.0) is GateReason.PASSING
    assert opened.command_received(FORWARD, 10.1) == FORWARD
    assert opened.command_received(FORWARD, 10.11) is None
    assert opened.update(10.11) is GateReason.ALERT_SILENT
    assert opened.silence(10.1) == pytest.approx(0.5)


@pytest.mark.parametrize('age', [0.51, 5.0, math.inf, math.nan])
def test_a_false_that_is_old_when_it_is_heard_changes_nothing(age):
    closed = gate()
    closed.alert_received(False, 10.0, age=age)
    assert closed.update(10.0) is GateReason.NO_ALERT_YET
    closed.alert_received(False, 10.0)
    closed.alert_received(True, 10.1)
    closed.alert_received(False, 10.2, age=age)
    assert closed.update(10.61) is GateReason.ALERT_SILENT


def test_an_older_false_never_makes_a_newer_one_older():
    opened = gate()
    opened.alert_received(False, 10.0)
    opened.alert_received(False, 10.1, age=0.4)
    assert opened.silence(10.1) == pytest.approx(0.1)


@pytest.mark.parametrize('age', [0.0, 5.0, math.inf])
def test_a_true_counts_however_old_it_is(age):
    opened = open_gate()
    opened.alert_received(True, 0.1, age=age)
    assert opened.timer_fired(0.1) == ZERO
    assert opened.update(0.1 + TIMEOUT) is GateReason.ALERT


@pytest.mark.parametrize('age', [0.51, math.inf, math.nan])
def test_a_command_that_is_old_when_it_is_heard_does_not_pass_and_is_no_sign_of_life(age):
    opened = gate(command_timeout=0.5)
    opened.alert_received(False, 10.0)
    opened.command_received(FORWARD, 10.0)
    opened.alert_received(False, 10.4)
    assert opened.command_received(FORWARD, 10.4, age=age) is None
    assert opened.timer_fired(10.51) == ZERO


def test_a_loop_that_paused_trusts_nothing_that_it_finds_but_a_true():
    opened = open_gate()
    assert opened.loop_ran(0.0) == 0.0
    assert opened.loop_ran(0.25) == 0.0  # half the timeout
    assert opened.loop_ran(5.25) == 5.0
    assert opened.update(5.25) is GateReason.GATE_LATE
    assert opened.timer_fired(5.25) == ZERO
    for now in (5.25, 5.3, 5.5, 5.74):
        opened.loop_ran(now)
        opened.alert_received(False, now)  # as fresh as it looks
        assert opened.command_received(FORWARD, now) is None
        assert opened.timer_fired(now) == ZERO
    opened.loop_ran(5.75)
    assert opened.update(5.75) is GateReason.ALERT_SILENT
    opened.alert_received(False, 5.8)
    assert opened.command_received(FORWARD, 5.8) == FORWARD


def test_a_true_that_a_late_loop_finds_stops_on():
    opened = open_gate()
    opened.loop_ran(0.0)
    opened.loop_ran(5.0)
    opened.alert_received(True, 5.0)
    assert opened.update(5.0) is GateReason.ALERT
    opened.loop_ran(5.2)
    opened.alert_received(False, 5.2)
    assert opened.update(5.2) is GateReason.ALERT


def test_a_pause_with_latch_waits_for_the_reset():
    opened = open_gate(latch=True)
    opened.loop_ran(0.0)
    opened.loop_ran(5.0)
    assert opened.reset(5.1) is GateReason.GATE_LATE
    opened.loop_ran(5.2), opened.loop_ran(5.4), opened.loop_ran(5.6)
    opened.alert_received(False, 5.6)
    assert opened.update(5.6) is GateReason.LATCHED
    assert opened.reset(5.6) is GateReason.PASSING


# A loop that paused.


@pytest.mark.parametrize(
    ('alert_timeout', 'command_timeout', 'late_after'),
    [(0.5, 0.5, 0.25), (10.0, 0.5, 0.25), (0.5, 10.0, 0.25), (0.1, 0.4, 0.05)],
)
def test_a_loop_is_late_after_half_of_the_smaller_timeout(
    alert_timeout, command_timeout, late_after
):
    rules = GateRules(alert_timeout=alert_timeout, command_timeout=command_timeout)
    assert rules.late_after == late_after


def test_a_command_that_queued_in_a_pause_is_stale_however_long_alerts_may_be_silent():
    opened = VelocityGate(GateRules(alert_timeout=10.0, command_timeout=0.5), 0.0)
    opened.alert_received(False, 0.0)
    opened.loop_ran(0.0)
    assert opened.command_received(FORWARD, 0.0) == FORWARD
    assert opened.loop_ran(3.0) == 3.0
    assert opened.command_received(FORWARD, 3.0) is None  # as fresh as it looks
    assert opened.update(3.0) is GateReason.GATE_LATE
    assert opened.timer_fired(3.0) == ZERO
    for now in (3.2, 3.4):
        opened.loop_ran(now)
        assert opened.command_received(FORWARD, now) is None
    opened.loop_ran(3.5)
    assert opened.update(3.5) is GateReason.PASSING  # the last False is still fresh
    assert opened.command_received(FORWARD, 3.5) == FORWARD


def test_a_false_that_queued_in_a_pause_is_stale_however_long_commands_may_be_silent():
    opened = open_gate(command_timeout=10.0)
    opened.loop_ran(0.0)
    assert opened.loop_ran(0.4) == 0.4
    opened.alert_received(False, 0.4)
    assert opened.command_received(FORWARD, 0.4) is None
    opened.loop_ran(0.6)
    opened.loop_ran(0.8)
    assert opened.update(0.89) is GateReason.GATE_LATE
    assert opened.update(0.9) is GateReason.ALERT_SILENT


def test_a_long_pause_ends_a_ramp_with_zero():
    opened = open_gate(stop_mode='ramp', linear_deceleration=0.1, angular_deceleration=0.1)
    opened.loop_ran(0.0)
    opened.command_received(FORWARD, 0.0)
    opened.alert_received(True, 0.1)
    opened.loop_ran(0.1)
    assert opened.timer_fired(0.1) == FORWARD
    opened.loop_ran(0.8)
    assert opened.timer_fired(0.8) == ZERO  # 0.93 m/s by the deceleration alone


def test_a_long_pause_while_commands_pass_begins_no_ramp_from_the_old_command():
    opened = open_gate(**RAMP)
    opened.loop_ran(0.0)
    opened.command_received(FORWARD, 0.0)
    opened.loop_ran(5.0)
    assert opened.timer_fired(5.0) == ZERO


def test_a_short_pause_counts_for_the_ramp_that_it_begins():
    opened = open_gate(**RAMP)
    opened.loop_ran(0.0)
    opened.command_received(FORWARD, 0.0)
    assert opened.loop_ran(0.3) == 0.3
    assert opened.update(0.3) is GateReason.GATE_LATE
    assert components(opened.timer_fired(0.3)) == pytest.approx((0.7, 0, 0, 0, 0, 0.2))


def test_after_a_pause_commands_pass_again_with_a_fresh_false():
    opened = open_gate(**RAMP)
    opened.loop_ran(0.0)
    opened.command_received(FORWARD, 0.0)
    opened.loop_ran(5.0)
    for now in (5.2, 5.4, 5.6):
        opened.loop_ran(now)
        opened.alert_received(False, now)
    assert opened.command_received(FORWARD, 5.6) == FORWARD


# A command that comes back.


def test_where_nobody_can_tell_new_commands_from_old_ones_nothing_passes():
    tested = VelocityGate(GateRules(), 0.0)
    tested.alert_received(False, 0.0)
    assert tested.command_received(FORWARD, 0.0) == FORWARD
    tested.commands_come_back(True)
    assert tested.command_received(FORWARD, 0.1) is None
    assert tested.timer_fired(0.1) == ZERO
    assert tested.update(0.1) is GateReason.COMMANDS_COME_BACK
    tested.alert_received(True, 0.1)
    assert tested.update(0.1) is GateReason.ALERT
    tested.commands_come_back(False)
    tested.alert_received(False, 0.7)
    assert tested.command_received(FORWARD, 0.7) == FORWARD
