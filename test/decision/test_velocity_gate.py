"""The gate's state machine: what passes, what stops, and how it slows down."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nav_monitor_ros.decision.velocity_gate import ZERO, Gate, GateReason, GateRules, Velocity
from nav_monitor_ros.errors import NavMonitorError

FORWARD = Velocity((1.0, 0.0, 0.0), (0.0, 0.0, 0.5))
TIMEOUT = 0.5
RAMP = {'stop_mode': 'ramp', 'linear_deceleration': 1.0, 'angular_deceleration': 1.0}


def gate(**rules) -> Gate:
    return Gate(GateRules(alert_timeout=TIMEOUT, **rules), 0.0)


def open_gate(now: float = 0.0, **rules) -> Gate:
    """Return a gate that passes at ``now``."""
    opened = gate(**rules)
    opened.alert_heard(False, now)
    if opened.rules.latch:
        opened.reset(now)
    assert opened.look(now) is GateReason.PASSING
    return opened


def components(velocity: Velocity) -> tuple[float, ...]:
    return (*velocity.linear, *velocity.angular)


# What passes.


def test_nothing_passes_before_the_first_alert():
    closed = gate()
    assert closed.command(FORWARD, 0.0) is None
    assert closed.look(100.0) is GateReason.NO_ALERT_YET
    assert closed.tick(100.0) == ZERO


def test_commands_pass_unchanged_while_the_alert_is_false_and_fresh():
    opened = open_gate()
    assert opened.command(FORWARD, TIMEOUT) == FORWARD
    assert opened.tick(TIMEOUT) is None  # nothing is repeated


def test_true_stops_at_once():
    opened = open_gate()
    opened.command(FORWARD, 0.1)
    opened.alert_heard(True, 0.2)
    assert opened.look(0.2) is GateReason.ALERT
    assert opened.tick(0.2) == ZERO
    assert opened.command(FORWARD, 0.2) is None


def test_silence_stops_once_it_is_longer_than_the_timeout():
    opened = open_gate()
    assert opened.look(TIMEOUT) is GateReason.PASSING
    assert opened.command(FORWARD, TIMEOUT + 1e-6) is None
    assert opened.look(TIMEOUT + 1e-6) is GateReason.ALERT_SILENT
    opened.alert_heard(False, 2.0)
    assert opened.look(2.0) is GateReason.PASSING


def test_silence_after_a_true_is_silence():
    closed = gate()
    closed.alert_heard(True, 0.0)
    assert closed.look(TIMEOUT) is GateReason.ALERT
    assert closed.look(TIMEOUT + 0.1) is GateReason.ALERT_SILENT


def test_a_true_outweighs_the_falses_of_other_publishers_for_the_timeout():
    opened = open_gate()
    opened.alert_heard(True, 0.1)
    for now in (0.1, 0.2, 0.5, 0.6):
        opened.alert_heard(False, now)
        assert opened.look(now) is GateReason.ALERT
    opened.alert_heard(False, 0.7)
    assert opened.look(0.7) is GateReason.PASSING


def test_a_missed_deadline_stops_until_the_next_alert():
    opened = open_gate()
    opened.deadline_missed()
    assert opened.look(0.1) is GateReason.ALERT_DEADLINE_MISSED
    opened.alert_heard(False, 0.2)
    assert opened.look(0.2) is GateReason.PASSING


def test_a_lost_publisher_stops_whatever_the_others_say():
    opened = open_gate()
    opened.liveliness_changed(lost=1)
    opened.alert_heard(False, 0.1)
    assert opened.look(0.1) is GateReason.ALERT_LIVELINESS_LOST
    opened.liveliness_changed(lost=0)
    assert opened.look(0.2) is GateReason.PASSING


def test_a_clock_that_gives_no_number_stops():
    assert open_gate().look(math.nan) is not GateReason.PASSING


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('index', range(6))
def test_a_command_that_is_no_number_counts_as_zero(bad, index):
    values = [1.0] * 6
    values[index] = bad
    asked = Velocity(tuple(values[:3]), tuple(values[3:]))
    assert open_gate().command(asked, 0.1) == ZERO
    stopping = open_gate(**RAMP)
    stopping.command(FORWARD, 0.1)
    stopping.alert_heard(True, 0.1)
    stopping.command(asked, 0.1)
    assert stopping.tick(0.1) == ZERO


# Commands that stop coming.


def test_zero_is_sent_once_when_commands_stop_coming():
    opened = open_gate(command_timeout=0.3)
    opened.command(FORWARD, 0.0)
    assert opened.tick(0.3) is None
    assert opened.tick(0.31) == ZERO
    assert [opened.tick(now) for now in (0.35, 0.4, 0.5)] == [None] * 3
    assert opened.command(FORWARD, 0.5) == FORWARD


def test_no_zero_is_sent_where_no_command_ever_came():
    assert open_gate(command_timeout=0.1).tick(0.4) is None


def test_zeros_are_sent_as_long_as_the_alert_stops():
    closed = gate()
    closed.command(FORWARD, 0.0)
    assert [closed.tick(float(now)) for now in range(100)] == [ZERO] * 100


def test_an_old_command_is_never_repeated_after_a_stop():
    opened = open_gate()
    opened.command(FORWARD, 0.1)
    opened.alert_heard(True, 0.2)
    opened.tick(0.2)
    opened.alert_heard(False, 0.8)
    assert opened.look(0.8) is GateReason.PASSING
    assert opened.tick(0.8) in (None, ZERO)


# The ramp.


def test_the_ramp_slows_each_component_in_its_own_direction():
    opened = open_gate(stop_mode='ramp', linear_deceleration=1.0, angular_deceleration=2.0)
    opened.command(Velocity((1.0, -0.2, 0.0), (0.0, 0.0, -1.0)), 0.1)
    opened.alert_heard(True, 0.2)
    first = opened.tick(0.2)
    assert components(first) == pytest.approx((1.0, -0.2, 0.0, 0.0, 0.0, -1.0))
    opened.alert_heard(True, 0.4)
    assert components(opened.tick(0.3)) == pytest.approx((0.9, -0.1, 0, 0, 0, -0.8))
    assert components(opened.tick(0.6)) == pytest.approx((0.6, 0, 0, 0, 0, -0.2))
    assert opened.tick(1.3) == ZERO


def test_the_ramp_starts_where_the_stop_is_seen_not_at_the_last_command():
    opened = open_gate(**RAMP)
    opened.command(FORWARD, 0.0)
    assert opened.tick(TIMEOUT + 0.1).linear[0] == pytest.approx(1.0)
    assert opened.tick(TIMEOUT + 0.2).linear[0] == pytest.approx(0.9)


def test_a_ramp_gives_way_to_a_slower_command_and_not_to_a_faster_one():
    opened = open_gate(**RAMP)
    opened.command(FORWARD, 0.1)
    opened.alert_heard(True, 0.1)
    opened.tick(0.1)
    assert opened.command(Velocity((5.0, 0.0, 0.0), (0.0, 0.0, 5.0)), 0.2) is None
    assert opened.tick(0.2).linear[0] == pytest.approx(0.9)
    opened.command(Velocity((0.3, 0.0, 0.0), (0.0, 0.0, -1.0)), 0.2)
    assert components(opened.tick(0.2)) == pytest.approx((0.3, 0, 0, 0, 0, 0))


def test_a_second_stop_ramps_from_the_command_before_it():
    opened = open_gate(**RAMP)
    opened.command(FORWARD, 0.0)
    opened.alert_heard(True, 0.0)
    opened.tick(10.0)
    opened.alert_heard(False, 10.0)
    slow = Velocity((0.4, 0.0, 0.0))
    assert opened.command(slow, 10.0) == slow
    opened.alert_heard(True, 10.1)
    assert opened.tick(10.2).linear[0] <= 0.4
    assert opened.tick(11.0) == ZERO


# The latch.


def test_a_latched_stop_stays_until_it_is_reset():
    opened = open_gate(latch=True)
    opened.alert_heard(True, 0.1)
    assert opened.reset(0.1) is GateReason.ALERT
    opened.alert_heard(False, 0.8)
    assert opened.look(0.8) is GateReason.LATCHED
    assert opened.command(FORWARD, 0.8) is None
    assert opened.tick(0.8) == ZERO
    assert opened.reset(0.9) is GateReason.PASSING
    assert opened.command(FORWARD, 0.9) == FORWARD


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
    opened.alert_heard(False, 2.0)
    opened.liveliness_changed(0)
    assert opened.look(2.0) is GateReason.LATCHED
    assert opened.reset(2.0) is GateReason.PASSING


def test_the_start_is_latched_so_that_a_restart_releases_nothing():
    started = gate(latch=True)
    assert started.look(0.0) is GateReason.NO_ALERT_YET
    started.alert_heard(False, 0.1)
    assert started.look(0.1) is GateReason.LATCHED


def test_without_latch_a_stop_ends_with_its_cause_and_reset_changes_nothing():
    opened = open_gate()
    assert opened.reset(0.1) is GateReason.PASSING
    opened.alert_heard(True, 0.1)
    assert opened.reset(0.2) is GateReason.ALERT
    opened.alert_heard(False, 0.9)
    assert opened.look(0.9) is GateReason.PASSING


def test_switching_the_latch_off_releases():
    opened = open_gate(latch=True)
    opened.alert_heard(True, 0.0)
    opened.look(0.0)
    opened.alert_heard(False, 1.0)
    assert opened.look(1.0) is GateReason.LATCHED
    opened.change_rules(latch=False)
    assert opened.look(1.0) is GateReason.PASSING


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


# Whatever happens.

numbers = st.floats(-3, 3) | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf])
triples = st.tuples(numbers, numbers, numbers)
velocities = st.builds(Velocity, triples, triples)
events = st.one_of(
    st.tuples(st.just('alert'), st.booleans()),
    st.tuples(st.just('command'), velocities),
    st.tuples(st.just('tick'), st.none()),
    st.tuples(st.just('deadline'), st.none()),
    st.tuples(st.just('lost'), st.integers(0, 2)),
    st.tuples(st.just('reset'), st.none()),
)
stories = st.lists(st.tuples(st.floats(0, 0.8), events), max_size=40)


def play(played: Gate, story):
    """Yield what was sent at each event, with the time and the reason then."""
    now = 0.0
    for pause, (kind, value) in story:
        now += pause
        sent = None
        if kind == 'alert':
            played.alert_heard(value, now)
        elif kind == 'command':
            sent = played.command(value, now)
        elif kind == 'deadline':
            played.deadline_missed()
        elif kind == 'lost':
            played.liveliness_changed(value)
        elif kind == 'reset':
            played.reset(now)
        if sent is None:
            sent = played.tick(now)
        yield now, (kind, value), sent, played.look(now)


@given(stories, st.booleans())
def test_a_hard_stop_sends_nothing_but_zero(story, latch):
    for _, _, sent, reason in play(gate(latch=latch), story):
        if reason is not GateReason.PASSING:
            assert sent == ZERO


@given(stories, st.booleans(), st.sampled_from(['hard', 'ramp']))
def test_nothing_is_sent_that_is_no_number(story, latch, mode):
    for _, _, sent, _ in play(gate(latch=latch, stop_mode=mode), story):
        assert sent is None or sent.is_finite


@given(stories, st.booleans())
def test_a_ramp_only_ever_slows_down_and_never_turns_round(story, latch):
    before = None
    for _, _, sent, reason in play(gate(latch=latch, **RAMP), story):
        if reason is GateReason.PASSING:
            before = sent or before
            continue
        if before is not None:
            for old, new in zip(components(before), components(sent), strict=True):
                assert abs(new) <= abs(old)
                assert new * old >= 0
        before = sent


@given(stories, st.booleans(), st.sampled_from(['hard', 'ramp']))
def test_commands_pass_only_within_the_timeout_of_a_false_and_beyond_that_of_a_true(
    story, latch, mode
):
    last = {True: -math.inf, False: -math.inf}
    for now, (kind, value), _, reason in play(gate(latch=latch, stop_mode=mode), story):
        if kind == 'alert':
            last[value] = now
        if reason is GateReason.PASSING:
            assert now - last[False] <= TIMEOUT < now - last[True]


@given(velocities.filter(lambda v: v.is_finite), st.floats(0.05, 1.0))
def test_the_ramp_reaches_zero_within_speed_over_deceleration(velocity, step):
    opened = open_gate(**RAMP)
    opened.command(velocity, 0.0)
    opened.alert_heard(True, 0.0)
    fastest = max(map(abs, components(velocity)))
    now = 0.0
    opened.tick(now)
    while now < fastest:
        now += step
        sent = opened.tick(now)
    assert fastest == 0 or all(abs(value) < 1e-9 for value in components(sent))


# What is old when it is heard.


def test_a_false_counts_from_when_it_came():
    opened = gate()
    opened.alert_heard(False, 10.0, age=0.4)
    assert opened.look(10.0) is GateReason.PASSING
    assert opened.command(FORWARD, 10.1) == FORWARD
    assert opened.command(FORWARD, 10.11) is None
    assert opened.look(10.11) is GateReason.ALERT_SILENT
    assert opened.silence(10.1) == pytest.approx(0.5)


@pytest.mark.parametrize('age', [0.51, 5.0, math.inf, math.nan])
def test_a_false_that_is_old_when_it_is_heard_changes_nothing(age):
    closed = gate()
    closed.alert_heard(False, 10.0, age=age)
    assert closed.look(10.0) is GateReason.NO_ALERT_YET
    closed.alert_heard(False, 10.0)
    closed.alert_heard(True, 10.1)
    closed.alert_heard(False, 10.2, age=age)
    assert closed.look(10.61) is GateReason.ALERT_SILENT


def test_an_older_false_never_makes_a_newer_one_older():
    opened = gate()
    opened.alert_heard(False, 10.0)
    opened.alert_heard(False, 10.1, age=0.4)
    assert opened.silence(10.1) == pytest.approx(0.1)


@pytest.mark.parametrize('age', [0.0, 5.0, math.inf])
def test_a_true_counts_however_old_it_is(age):
    opened = open_gate()
    opened.alert_heard(True, 0.1, age=age)
    assert opened.tick(0.1) == ZERO
    assert opened.look(0.1 + TIMEOUT) is GateReason.ALERT


@pytest.mark.parametrize('age', [0.51, math.inf, math.nan])
def test_a_command_that_is_old_when_it_is_heard_does_not_pass_and_is_no_sign_of_life(age):
    opened = gate(command_timeout=0.5)
    opened.alert_heard(False, 10.0)
    opened.command(FORWARD, 10.0)
    opened.alert_heard(False, 10.4)
    assert opened.command(FORWARD, 10.4, age=age) is None
    assert opened.tick(10.51) == ZERO


def test_a_loop_that_paused_trusts_nothing_that_it_finds_but_a_true():
    opened = open_gate()
    assert opened.awake(0.0) == 0.0
    assert opened.awake(0.25) == 0.0  # half the timeout
    assert opened.awake(5.25) == 5.0
    assert opened.look(5.25) is GateReason.GATE_LATE
    assert opened.tick(5.25) == ZERO
    for now in (5.25, 5.3, 5.5, 5.74):
        opened.awake(now)
        opened.alert_heard(False, now)  # as fresh as it looks
        assert opened.command(FORWARD, now) is None
        assert opened.tick(now) == ZERO
    opened.awake(5.75)
    assert opened.look(5.75) is GateReason.ALERT_SILENT
    opened.alert_heard(False, 5.8)
    assert opened.command(FORWARD, 5.8) == FORWARD


def test_a_true_that_a_late_loop_finds_stops_on():
    opened = open_gate()
    opened.awake(0.0)
    opened.awake(5.0)
    opened.alert_heard(True, 5.0)
    assert opened.look(5.0) is GateReason.ALERT
    opened.awake(5.2)
    opened.alert_heard(False, 5.2)
    assert opened.look(5.2) is GateReason.ALERT


def test_a_pause_with_latch_waits_for_the_reset():
    opened = open_gate(latch=True)
    opened.awake(0.0)
    opened.awake(5.0)
    assert opened.reset(5.1) is GateReason.GATE_LATE
    opened.awake(5.2), opened.awake(5.4), opened.awake(5.6)
    opened.alert_heard(False, 5.6)
    assert opened.look(5.6) is GateReason.LATCHED
    assert opened.reset(5.6) is GateReason.PASSING


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 1.0), st.sampled_from(['false', 'command', 'tick']),
            st.floats(0.0, 3.0),
        ), max_size=60,
    )
)
def test_no_command_passes_without_a_false_that_came_within_the_timeout(events):
    """Whatever pauses the loop, and however old what it finds then is."""
    tested, now, came, paused = gate(), 0.0, -math.inf, -math.inf
    tested.awake(now)
    for step, kind, age in events:
        now += step
        if tested.awake(now):
            paused = now
        if kind == 'false':
            tested.alert_heard(False, now, age=age)
            if now >= paused + TIMEOUT:
                came = max(came, now - age)
        elif kind == 'tick':
            tested.tick(now)
        elif tested.command(FORWARD, now, age=age) is not None:
            assert now - came <= TIMEOUT + 1e-9
            assert now >= paused + TIMEOUT - 1e-9
            assert age <= tested.rules.command_timeout


# A command that comes back.


def test_where_nobody_can_tell_new_commands_from_old_ones_nothing_passes():
    tested = Gate(GateRules(), 0.0)
    tested.alert_heard(False, 0.0)
    assert tested.command(FORWARD, 0.0) == FORWARD
    tested.commands_come_back(True)
    assert tested.command(FORWARD, 0.1) is None
    assert tested.tick(0.1) == ZERO
    assert tested.look(0.1) is GateReason.COMMANDS_COME_BACK
    tested.alert_heard(True, 0.1)
    assert tested.look(0.1) is GateReason.ALERT
    tested.commands_come_back(False)
    tested.alert_heard(False, 0.7)
    assert tested.command(FORWARD, 0.7) == FORWARD
