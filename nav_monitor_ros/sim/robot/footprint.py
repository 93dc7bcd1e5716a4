"""Contact: how far the robot's footprint is from what it can touch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nav_monitor_ros.sim.robot.kinematics import ROBOT, Pose, RobotLimits
from nav_monitor_ros.sim.world.floor_plan import FloorPlan, Wall
from nav_monitor_ros.sim.world.shapes import Thing
from nav_monitor_ros.sim.world.world import World


def polygon_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return the distances of points from a convex polygon, negative inside.

    Args:
        points: (M, 2), m.
        polygon: (N, 2), m, counter-clockwise.

    Returns:
        (M,), m.
    """
    start = polygon
    edge = np.roll(polygon, -1, axis=0) - start  # (N, 2)
    to_point = points[:, None] - start  # (M, N, 2)
    squared = np.maximum((edge**2).sum(1), 1e-18)
    share = np.clip((to_point * edge).sum(2) / squared, 0, 1)
    nearest = np.hypot(*np.moveaxis(to_point - share[..., None] * edge, 2, 0)).min(1)
    left = edge[:, 0] * to_point[..., 1] - edge[:, 1] * to_point[..., 0]
    return np.where((left >= 0).all(1), -nearest, nearest)


def gap_to(pose: Pose, thing: Thing, robot: RobotLimits = ROBOT) -> float:
    """Return the gap between the robot and an object.

    Args:
        pose: Of the robot.
        thing: Object. For a drop-off the wheels count, which must not pass its edge; for all
            others the footprint.
        robot: Its size.

    Returns:
        m; 0 or below is contact.
    """
    if thing.kind == 'drop_off':
        side = np.array([-math.sin(pose.yaw), math.cos(pose.yaw)]) * robot.half_track
        points, reach = np.array([(pose.x, pose.y) + side, (pose.x, pose.y) - side]), 0.0
    else:
        points, reach = np.array([(pose.x, pose.y)]), robot.radius
    return min(float(polygon_distance(points, hull).min()) for hull in thing.outlines) - reach


def wall_distance(pose: Pose, walls: Iterable[Wall]) -> float:
    """Return the distance of the robot's centre from the nearest wall, m."""
    nearest = math.inf
    for wall in walls:
        along = min(max(
            (pose.x - wall.start[0]) * wall.direction[0]
            + (pose.y - wall.start[1]) * wall.direction[1], 0.0), wall.length)
        x, y = np.array(wall.start) + along * wall.direction
        nearest = min(nearest, math.hypot(pose.x - x, pose.y - y))
    return nearest


def gap_to_known(pose: Pose, world: World, robot: RobotLimits = ROBOT) -> float:
    """Return the smallest gap between the robot and a wall, a door or a known object, m."""
    plan: FloorPlan = world.plan
    inside = bool(plan.contains(np.array([(pose.x, pose.y)]))[0])
    gap = wall_distance(pose, plan.walls) - robot.radius if inside else -robot.radius
    for thing in (*world.doors, *world.things):
        # The outlines of a distant object need no exact distance.
        if math.hypot(pose.x - thing.x, pose.y - thing.y) < 2.5:
            gap = min(gap, gap_to(pose, thing, robot))
    return gap
