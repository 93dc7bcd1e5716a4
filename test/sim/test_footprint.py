"""Gaps and contact, where geometry has a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nav_monitor_ros.sim.robot.footprint import gap_to, polygon_distance, wall_distance
from nav_monitor_ros.sim.robot.kinematics import Pose
from nav_monitor_ros.sim.world.floor_plan import Wall
from nav_monitor_ros.sim.world.shapes import Part, Thing, outline_of, rectangle
from nav_monitor_ros.sim.world.textures import Surface

GRAY = Surface('plain', ((0.5, 0.5, 0.5),) * 3, 0)


def thing(*parts, kind='box', **place):
    return Thing(kind, parts, **place)


def test_distances_from_a_square_are_signed():
    square = rectangle(2.0, 2.0)
    points = np.array([(3.0, 0.0), (2.0, 2.0), (0.0, 0.5), (1.0, 0.0)])
    assert polygon_distance(points, square) == pytest.approx([2.0, math.sqrt(2), -0.5, 0.0])


def test_gap_to_a_turned_box():
    box = thing(Part('box', (0.5, 0.5, 0.2), (0, 0, 0.2), GRAY), x=2.0, yaw=math.pi / 4)
    assert gap_to(Pose(0, 0, 0), box) == pytest.approx(2 - math.sqrt(0.5) - 0.2, abs=1e-6)
    assert gap_to(Pose(2, 0.3, 0), box) < 0


def test_gap_to_a_ball_is_that_of_its_widest_part():
    ball = thing(Part('sphere', (0.25,), (0, 0, 0.25), GRAY), kind='ball', x=1.0, y=1.0)
    assert gap_to(Pose(0, 0, 0), ball) == pytest.approx(math.sqrt(2) - 0.45, abs=2e-3)


def test_what_is_above_the_robot_is_not_touched():
    table = thing(Part('box', (1, 1, 0.02), (0, 0, 0.8), GRAY),
                  Part('cylinder', (0.05, 0.4), (0, 0, 0.4), GRAY))
    assert gap_to(Pose(0.6, 0, 0), table) == pytest.approx(0.35, abs=1e-3)
    assert outline_of(table.parts[0]) is None


def test_a_leaning_board_is_touched_up_to_the_height_of_the_robot():
    # From (0, 0, 0) to (2, 0, 2), 0.4 m high at x = 0.4.
    board = Part('box', (math.sqrt(2), 0.5, 1e-4), (1, 0, 1), GRAY, (0, -math.pi / 4, 0))
    assert outline_of(board)[:, 0].max() == pytest.approx(0.4, abs=1e-3)


def test_at_a_drop_off_the_wheels_count():
    hole = Thing('drop_off', (), x=1.0, own_outlines=(rectangle(1.0, 1.0),))
    # The edge is at x = 0.5; the wheels are beside the centre.
    assert gap_to(Pose(0.4, 0, 0), hole) == pytest.approx(0.1)
    assert gap_to(Pose(0.4, 0, math.pi / 2), hole) == pytest.approx(-0.06)


def test_distance_from_a_wall_and_from_its_end():
    wall = Wall((0.0, 1.0), (2.0, 1.0))
    assert wall_distance(Pose(1, 0, 0), [wall]) == pytest.approx(1.0)
    assert wall_distance(Pose(5, 5, 0), [wall]) == pytest.approx(5.0)
