"""A robot that drives through a world in real time, whoever commands it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nav_monitor_ros.decision.velocity_gate import Velocity
from nav_monitor_ros.sim.camera.effects import CameraEffects
from nav_monitor_ros.sim.camera.rendering import CAMERA, CameraModel, Renderer
from nav_monitor_ros.sim.drives import start_of_day
from nav_monitor_ros.sim.robot.driver import PathDriver
from nav_monitor_ros.sim.robot.footprint import gap_to
from nav_monitor_ros.sim.robot.kinematics import ROBOT, RobotLimits, RobotState
from nav_monitor_ros.sim.world.mjcf import CompiledWorld

_STEP = 1 / 60  # s, longest step of the robot's motion


class MovingRobot:
    """One robot in one world; used in one thread, and closed at the end."""

    def __init__(
        self,
        compiled: CompiledWorld,
        *,
        seed: int,
        start: int = 0,
        camera: CameraModel = CAMERA,
        robot: RobotLimits = ROBOT,
    ) -> None:
        """Put the robot at a point of the world's path.

        Args:
            compiled: World.
            seed: Of the camera.
            start: Index in the world's path.
            camera: The robot's camera.
            robot: The robot's limits.

        Raises:
            NavMonitorError: MuJoCo is not installed, or there is no OpenGL without a display.
        """
        self.world = compiled.world
        self.camera = camera
        self.time = 0.0  # s since the start
        self.touched = False  # whether there has been contact with the unknown object
        self._robot = robot
        self._driver = PathDriver(self.world.path[start:], robot)
        self.state = RobotState(self._driver.start_pose())
        self._effects = CameraEffects(seed, start_of_day(seed), camera=camera)
        self._renderer = Renderer(compiled, camera)

    def close(self) -> None:
        """Release the memory of the graphics library."""
        self._renderer.close()

    @property
    def arrived(self) -> bool:
        """Return whether the robot has reached the end of the path."""
        return self._driver.arrived

    @property
    def gap(self) -> float:
        """Return the gap between robot and unknown object in m; infinite without one."""
        unknown = self.world.unknown
        return math.inf if unknown is None else gap_to(self.state.pose, unknown, self._robot)

    def wanted(self) -> Velocity:
        """Return the driver's command; it sees nothing and knows only the path."""
        speed, turn_rate = self._driver.command(self.state.pose)
        return Velocity((speed, 0.0, 0.0), (0.0, 0.0, turn_rate))

    def move(self, velocity: Callable[[], Velocity], seconds: float) -> None:
        """Follow commands for some time.

        Args:
            velocity: Returns the command for the next step.
            seconds: Duration.
        """
        steps = max(1, math.ceil(seconds / _STEP))
        for _ in range(steps):
            command = velocity()
            self.state = self.state.moved(
                command.linear[0], command.angular[2], seconds / steps, self._robot)
            self.touched |= self.gap <= 0
        self.time += seconds

    def look(self) -> np.ndarray:
        """Return what the camera sees now, uint8 (height, width, 3) RGB."""
        return self._effects.apply(
            self._renderer.image(self.state.pose), self.time, self.state.turn_rate)
