"""The base accelerates, brakes and turns within its limits, and the driver follows its path."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nav_monitor_ros.sim.robot.driver import PathDriver
from nav_monitor_ros.sim.robot.kinematics import ROBOT, Pose, RobotState

STEP = 1 / 60


def test_braking_from_full_speed_takes_an_eighth_of_a_metre():
    state = RobotState(Pose(0, 0, 0), speed=0.5)
    seconds = 0.0
    while state.speed > 0:
        state, seconds = state.moved(0.0, 0.0, STEP), seconds + STEP
    assert seconds == pytest.approx(0.5, abs=2 * STEP)
    assert state.pose.x == pytest.approx(0.5**2 / 2, abs=0.5 * STEP)


def test_speed_and_turn_rate_stay_within_the_limits():
    state = RobotState(Pose(0, 0, 0))
    state = state.moved(9.0, -9.0, STEP)
    assert state.speed == pytest.approx(ROBOT.acceleration * STEP)
    for _ in range(200):
        state = state.moved(9.0, -9.0, STEP)
    assert state.speed == ROBOT.speed and state.turn_rate == -ROBOT.turn_rate


def test_a_turning_robot_drives_a_circle():
    state = RobotState(Pose(0, 0, 0), 0.5, 1.0)
    for _ in range(600):
        state = state.moved(0.5, 1.0, 2 * math.pi / 600)
    assert math.hypot(state.pose.x, state.pose.y) < 1e-3  # once round, radius 0.5 m
    assert state.pose.yaw == pytest.approx(2 * math.pi)


def test_the_driver_follows_a_path_round_a_corner_and_stops_at_its_end():
    steps = np.arange(0, 4, 0.05)
    zeros = np.zeros_like(steps)
    path = np.concatenate([
        np.column_stack([steps, zeros]), np.column_stack([zeros + 4, steps])])
    driver = PathDriver(path)
    state, farthest = RobotState(driver.start_pose()), 0.0
    for _ in range(3000):
        speed, turn_rate = driver.command(state.pose)
        if driver.arrived:
            break
        state = state.moved(speed, turn_rate, STEP)
        farthest = max(farthest, float(
            np.hypot(*(path - (state.pose.x, state.pose.y)).T).min()))
    assert driver.arrived and driver.command(state.pose) == (0.0, 0.0)
    assert farthest < 0.25
    assert math.hypot(state.pose.x - 4, state.pose.y - 3.95) < 0.6
