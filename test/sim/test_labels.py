"""What is ahead, by geometry."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nav_monitor_ros.sim.labels import AHEAD_CLASSES, RANGE, what_is_ahead
from nav_monitor_ros.sim.robot.kinematics import Pose
from nav_monitor_ros.sim.world.floor_plan import FloorPlan, Wall
from nav_monitor_ros.sim.world.known_objects import door
from nav_monitor_ros.sim.world.shapes import Part, Thing
from nav_monitor_ros.sim.world.textures import Surface
from nav_monitor_ros.sim.world.world import draw_world

GRAY = Surface('plain', ((0.5, 0.5, 0.5),) * 3, 0)


@pytest.fixture(scope='module')
def hall():
    """Return a hall of 10 m by 2 m, from (0, -1) to (10, 1), without anything in it."""
    corners = [(0.0, -1.0), (10.0, -1.0), (10.0, 1.0), (0.0, 1.0)]
    walls = tuple(
        Wall(a, b) for a, b in zip(corners, corners[1:] + corners[:1], strict=True))
    plan = FloorPlan(((0, -1, 10, 1),), walls, np.array([(0, 0), (10, 0)]), (2.0,))
    return replace(draw_world(0, pieces=1), plan=plan, doors=(), things=())


def box_at(x, y, kind='box'):
    return Thing(kind, (Part('box', (0.2, 0.2, 0.2), (0, 0, 0.2), GRAY),), x=x, y=y)


def test_nothing_within_range_is_free(hall):
    assert what_is_ahead(Pose(2, 0, 0), hall) == ('free', RANGE)


def test_the_wall_ahead_is_told_with_its_distance(hall):
    assert what_is_ahead(Pose(8, 0, 0), hall) == ('wall', pytest.approx(2.0))
    name, distance = what_is_ahead(Pose(5, 0, math.pi / 2), hall)
    assert name == 'wall' and distance == pytest.approx(1.0)


def test_a_door_in_the_wall_ahead_is_a_door(hall):
    placed = replace(door(np.random.default_rng(0)), x=10.0, y=0.0, yaw=math.pi)
    name, distance = what_is_ahead(Pose(8, 0, 0), replace(hall, doors=(placed,)))
    assert name == 'door' and 1.8 < distance < 2.0


@pytest.mark.parametrize('kind', ['box', 'pallet', 'person'])
def test_the_nearest_object_in_the_way_counts(hall, kind):
    world = replace(hall, things=(box_at(4.5, 0), box_at(4.0, 0.3, kind)))
    assert what_is_ahead(Pose(2, 0, 0), world) == (kind, pytest.approx(1.8))


def test_what_stands_beside_the_way_or_behind_does_not_count(hall):
    world = replace(hall, things=(box_at(3.5, 0.5), box_at(1.0, 0)))
    assert what_is_ahead(Pose(2, 0, 0), world)[0] == 'free'


def test_the_classes_are_those_of_the_training_task():
    from nav_monitor_ros.fitting.train import TASKS

    assert TASKS['corridor'].class_names == AHEAD_CLASSES
