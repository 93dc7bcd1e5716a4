"""A differential drive with limited accelerations."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pose:
    """Position and heading on the floor."""

    x: float  # m
    y: float  # m
    yaw: float  # rad


@dataclass(frozen=True)
class RobotLimits:
    """What the base can do."""

    radius: float = 0.2  # m, of the footprint
    half_track: float = 0.16  # m from the centre to each wheel
    speed: float = 0.5  # m/s
    turn_rate: float = 1.2  # rad/s
    acceleration: float = 0.5  # m/s^2
    braking: float = 1.0  # m/s^2
    turn_acceleration: float = 4.0  # rad/s^2


ROBOT = RobotLimits()


@dataclass(frozen=True)
class RobotState:
    """Pose and velocities."""

    pose: Pose
    speed: float = 0.0  # m/s, forwards
    turn_rate: float = 0.0  # rad/s, to the left

    def moved(
        self, speed: float, turn_rate: float, seconds: float, limits: RobotLimits = ROBOT
    ) -> RobotState:
        """Return the state after a short time, for which a command is followed.

        Args:
            speed: Commanded, m/s.
            turn_rate: Commanded, rad/s.
            seconds: Duration; velocities change at its start.
            limits: Of the base.
        """
        wanted = max(-limits.speed, min(limits.speed, speed))
        # Towards zero the brakes help; away from it only the motors do.
        slower = wanted * self.speed < 0 or abs(wanted) < abs(self.speed)
        rate = limits.braking if slower else limits.acceleration
        now = _towards(self.speed, wanted, rate * seconds)
        turn = max(-limits.turn_rate, min(limits.turn_rate, turn_rate))
        turning = _towards(self.turn_rate, turn, limits.turn_acceleration * seconds)
        pose, middle = self.pose, self.pose.yaw + turning * seconds / 2
        return RobotState(
            Pose(
                pose.x + now * seconds * math.cos(middle),
                pose.y + now * seconds * math.sin(middle),
                pose.yaw + turning * seconds,
            ),
            now, turning,
        )


def _towards(value: float, target: float, step: float) -> float:
    return target if abs(target - value) <= step else value + math.copysign(step, target - value)
