"""Stopping distances in docs/safety.md: the formulas, against a simulated stop."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'measured'))

from measured_stopping import DELAYS, EVENTS, largest_speed, stopping_distance  # noqa: E402

from nav_monitor_ros.sim.robot.kinematics import ROBOT, Pose, RobotState  # noqa: E402


@given(st.floats(0.0, 20.0), st.floats(0.0, 3.0), st.floats(0.2, 8.0))
def test_a_robot_at_the_largest_speed_stops_exactly_in_the_distance(distance, delay, braking):
    speed = largest_speed(distance, delay, braking)
    assert stopping_distance(speed, delay, braking) == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize('delay', [*DELAYS, *EVENTS.values()])
def test_the_simulated_robot_covers_that_distance(delay):
    step = 0.001
    state = RobotState(Pose(0.0, 0.0, 0.0), ROBOT.speed)
    for number in range(5000):
        wanted = ROBOT.speed if number * step < delay else 0.0
        state = state.moved(wanted, 0.0, step)
    expected = stopping_distance(ROBOT.speed, delay, ROBOT.braking)
    assert state.pose.x == pytest.approx(expected, abs=0.005)
