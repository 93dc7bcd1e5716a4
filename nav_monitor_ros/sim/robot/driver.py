"""A driver that follows a path and sees nothing: pure pursuit (Coulter, 1992)."""

from __future__ import annotations

import math

import numpy as np

from nav_monitor_ros.sim.robot.kinematics import ROBOT, Pose, RobotLimits

_LOOK_AHEAD = 0.55  # m
_SEARCH = 60  # points of the path beyond the last one that are searched for the nearest
_TURN_FIRST = 1.0  # rad of heading error above which the driver turns before it drives on


class PathDriver:
    """Commands for following a path from its start to its end."""

    def __init__(self, path: np.ndarray, robot: RobotLimits = ROBOT) -> None:
        """Begin at the start of a path, (N, 2) in m, with points close to each other."""
        self._path = path
        self._robot = robot
        self._nearest = 0

    @property
    def progress(self) -> int:
        """Return the index of the path's point that the robot has reached."""
        return self._nearest

    @property
    def arrived(self) -> bool:
        """Return whether the robot has reached the end of the path, within the look-ahead."""
        return self._nearest >= len(self._path) - 2 or (
            float(np.hypot(*(self._path[-1] - self._path[self._nearest]))) < _LOOK_AHEAD
        )

    def start_pose(self) -> Pose:
        """Return the pose at the start, along the path."""
        ahead = self._path[min(10, len(self._path) - 1)] - self._path[0]
        return Pose(
            float(self._path[0, 0]), float(self._path[0, 1]), math.atan2(ahead[1], ahead[0]))

    def command(self, pose: Pose) -> tuple[float, float]:
        """Return the speed in m/s and the turn rate in rad/s for a pose."""
        if self._find_nearest(pose):
            return 0.0, 0.0
        target = self._target(pose)
        dx, dy = target[0] - pose.x, target[1] - pose.y
        away = math.hypot(dx, dy)
        error = math.remainder(math.atan2(dy, dx) - pose.yaw, 2 * math.pi)
        if abs(error) > _TURN_FIRST:
            return 0.0, math.copysign(self._robot.turn_rate, error)
        speed = self._robot.speed * (1 - 0.6 * abs(error) / _TURN_FIRST)
        return speed, speed * 2 * math.sin(error) / max(away, 0.1)

    def _find_nearest(self, pose: Pose) -> bool:
        window = self._path[self._nearest : self._nearest + _SEARCH]
        distances = np.hypot(window[:, 0] - pose.x, window[:, 1] - pose.y)
        self._nearest += int(distances.argmin())
        return self.arrived

    def _target(self, pose: Pose) -> np.ndarray:
        window = self._path[self._nearest : self._nearest + _SEARCH]
        far = np.hypot(window[:, 0] - pose.x, window[:, 1] - pose.y) >= _LOOK_AHEAD
        return window[int(far.argmax())] if far.any() else window[-1]
