"""What holds for the velocity gate whatever happens to it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from velocity_gates import FORWARD, RAMP, TIMEOUT, components, gate, open_gate

from nav_monitor_ros.decision.velocity_gate import ZERO, GateReason, Velocity, VelocityGate

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


def play(played: VelocityGate, story):
    """Yield what was sent at each event, with the time and the reason then."""
    now = 0.0
    for pause, (kind, value) in story:
        now += pause
        sent = None
        if kind == 'alert':
            played.alert_received(value, now)
        elif kind == 'command':
            sent = played.command_received(value, now)
        elif kind == 'deadline':
            played.deadline_missed()
        elif kind == 'lost':
            played.liveliness_changed(value)
        elif kind == 'reset':
            played.reset(now)
        if sent is None:
            sent = played.timer_fired(now)
        yield now, (kind, value), sent, played.update(now)


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
    opened.command_received(velocity, 0.0)
    opened.alert_received(True, 0.0)
    fastest = max(map(abs, components(velocity)))
    now = 0.0
    opened.timer_fired(now)
    while now < fastest:
        now += step
        sent = opened.timer_fired(now)
    assert fastest == 0 or all(abs(value) < 1e-9 for value in components(sent))


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
    tested.loop_ran(now)
    for step, kind, age in events:
        now += step
        if tested.loop_ran(now):
            paused = now
        if kind == 'false':
            tested.alert_received(False, now, age=age)
            if now >= paused + TIMEOUT:
                came = max(came, now - age)
        elif kind == 'tick':
            tested.timer_fired(now)
        elif tested.command_received(FORWARD, now, age=age) is not None:
            assert now - came <= TIMEOUT + 1e-9
            assert now >= paused + TIMEOUT - 1e-9
            assert age <= tested.rules.command_timeout
