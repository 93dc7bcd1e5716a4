"""What is ahead of the robot: the classes of the network ``corridor``."""

from __future__ import annotations

import math

import numpy as np

from nav_monitor_ros.sim.robot.kinematics import ROBOT, Pose
from nav_monitor_ros.sim.world.mjcf import FREE, WALL
from nav_monitor_ros.sim.world.world import World

AHEAD_CLASSES = (FREE, WALL, 'door', 'box', 'pallet', 'person')
RANGE = 3.0  # m before the robot's centre, up to which something counts as ahead
_RAYS = np.linspace(-1, 1, 7) * (ROBOT.radius + 0.05)  # m to the left of the robot's centre


def what_is_ahead(pose: Pose, world: World, reach: float = RANGE) -> tuple[str, float]:
    """Return what the robot would touch first if it drove straight ahead.

    Args:
        pose: Of the robot.
        world: World; its unknown object counts with its kind.
        reach: m before the robot's centre.

    Returns:
        One of ``AHEAD_CLASSES`` (or the kind of an unknown object), and its distance in m from the
        robot's centre; ``free`` and ``reach`` if there is nothing.
    """
    ahead = np.array([math.cos(pose.yaw), math.sin(pose.yaw)])
    left = np.array([-ahead[1], ahead[0]])
    origins = (pose.x, pose.y) + _RAYS[:, None] * left
    nearest, label = reach, FREE
    for wall in world.plan.walls:
        distance = _ray_segment(origins, ahead, np.array(wall.start), np.array(wall.end))
        if distance < nearest:
            nearest, label = distance, WALL
    for thing in world.objects:
        if math.hypot(thing.x - pose.x, thing.y - pose.y) > reach + 1.5:
            continue
        for hull in thing.outlines:
            for start, end in zip(hull, np.roll(hull, -1, axis=0), strict=True):
                # A door lies in a wall, and is met at the same distance or before it.
                distance = _ray_segment(origins, ahead, start, end)
                if distance < nearest:
                    nearest, label = distance, thing.kind
    return label, nearest


def _ray_segment(
    origins: np.ndarray, ahead: np.ndarray, start: np.ndarray, end: np.ndarray
) -> float:
    """Return the smallest distance along parallel rays to a segment, infinite without a hit."""
    edge = end - start
    across = ahead[0] * edge[1] - ahead[1] * edge[0]
    if abs(across) < 1e-12:
        return math.inf
    to_start = start - origins
    along = (to_start[:, 0] * edge[1] - to_start[:, 1] * edge[0]) / across
    share = (to_start[:, 0] * ahead[1] - to_start[:, 1] * ahead[0]) / across
    hits = along[(share >= 0) & (share <= 1) & (along >= 0)]
    return float(hits.min()) if len(hits) else math.inf
