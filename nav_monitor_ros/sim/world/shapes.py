"""Parts of objects, and their outlines on the floor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from nav_monitor_ros.sim.world.textures import Surface

ROBOT_HEIGHT = 0.4  # m; what is above it cannot be touched
_ROUND = 32  # points of a circle


@dataclass(frozen=True, eq=False)
class Part:
    """One solid of an object, in the object's frame: x forwards, y to the left, z up."""

    shape: str  # box, cylinder, capsule, sphere or ellipsoid, or mesh
    # As in MJCF, m: half lengths of a box or an ellipsoid; radius and half length along z of a
    # cylinder or a capsule; radius of a sphere. Empty for a mesh.
    size: tuple[float, ...]
    position: tuple[float, float, float]  # m, of the centre
    surface: Surface
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)  # rad: roll, pitch, yaw
    opacity: float = 1.0
    shininess: float = 0.2
    reflectance: float = 0.0
    emission: float = 0.0
    vertices: np.ndarray | None = None  # float (N, 3), m, of a mesh
    faces: np.ndarray | None = None  # int (M, 3)

    @property
    def matrix(self) -> np.ndarray:
        """Return the rotation from the part's frame to the object's, (3, 3)."""
        return rotation_matrix(*self.rotation)

    def surface_points(self) -> np.ndarray:
        """Return points whose convex hull is the part, closely enough, (N, 3) in m."""
        local = self.vertices if self.vertices is not None else _points(self.shape, self.size)
        return local @ self.matrix.T + np.array(self.position)


@dataclass(frozen=True, eq=False)
class Thing:
    """An object that stands in a world."""

    kind: str  # key of KNOWN or UNKNOWN
    parts: tuple[Part, ...]
    x: float = 0.0  # m
    y: float = 0.0  # m
    yaw: float = 0.0  # rad
    # Outlines in the object's frame where its parts do not tell, such as the edge of a drop-off.
    own_outlines: tuple[np.ndarray, ...] = field(default=())
    unseen_dress: bool = False  # whether its surfaces are in no training drive

    @cached_property
    def outlines(self) -> tuple[np.ndarray, ...]:
        """Return convex polygons on the floor, each (N, 2) in m, counter-clockwise.

        A robot touches the object where its footprint meets one of them.
        """
        local = self.own_outlines or tuple(
            hull for hull in (outline_of(part) for part in self.parts) if hull is not None
        )
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        turn = np.array([[cos, -sin], [sin, cos]])
        return tuple(hull @ turn.T + (self.x, self.y) for hull in local)

    @property
    def radius(self) -> float:
        """Return the largest distance of an outline from the object's origin, m."""
        return max(
            float(np.hypot(*(hull - (self.x, self.y)).T).max()) for hull in self.outlines
        )


def outline_of(part: Part) -> np.ndarray | None:
    """Return the convex outline on the floor of what a robot can touch of a part.

    Returns:
        (N, 2) in m, counter-clockwise, or None if the part is above the robot.
    """
    points = part.surface_points()
    low = points[points[:, 2] <= ROBOT_HEIGHT]
    if not len(low):
        return None
    high = points[points[:, 2] > ROBOT_HEIGHT]
    if len(high) and part.shape in ('box', 'cylinder'):
        # Straight sides: where they pass the robot's height lies between the points.
        shares = (ROBOT_HEIGHT - low[:, None, 2]) / (high[None, :, 2] - low[:, None, 2])
        cut = low[:, None, :2] + shares[..., None] * (high[None, :, :2] - low[:, None, :2])
        flat = np.concatenate([low[:, :2], cut.reshape(-1, 2)])
    else:
        flat = low[:, :2]
    hull = cv2.convexHull(flat.astype(np.float32), clockwise=False)[:, 0]
    return hull.astype(float) if len(hull) >= 3 else None


def rotation_matrix(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return the rotation about x, then y, then z, of the fixed axes, (3, 3); angles in rad."""
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    return np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ])


def rectangle(length: float, width: float) -> np.ndarray:
    """Return a rectangle about the origin, counter-clockwise, (4, 2) in m."""
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (length / 2, width / 2)


def _points(shape: str, size: tuple[float, ...]) -> np.ndarray:
    angles = 2 * np.pi * np.arange(_ROUND) / _ROUND
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    if shape == 'box':
        corners = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1))).reshape(3, -1).T
        return corners * size
    if shape == 'cylinder':
        return np.concatenate([
            np.column_stack([circle * size[0], np.full(_ROUND, z)]) for z in (-size[1], size[1])
        ])
    heights = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 17))
    ball = np.concatenate([
        np.column_stack([circle * math.sqrt(max(0.0, 1 - z * z)), np.full(_ROUND, z)])
        for z in heights
    ])
    if shape == 'capsule':
        # So many that the robot's height is met closely enough wherever it cuts the part.
        rings = [
            np.column_stack([circle * size[0], np.full(_ROUND, z)])
            for z in np.linspace(-size[1], size[1], 9)
        ]
        return np.concatenate([*rings, *(ball * size[0] + (0, 0, z) for z in (-size[1], size[1]))])
    return ball * (size * 3 if shape == 'sphere' else size)
