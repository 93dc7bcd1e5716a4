"""The closed loop in lock-step: the world waits for the verdict on each image.

A modelled latency lies between an image and its alert, so that the result depends only on the seed
and on the detector, not on the speed of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.velocity_gate import (
    ZERO,
    GateReason,
    GateRules,
    Velocity,
    VelocityGate,
)
from nav_monitor_ros.sim.camera.rendering import CAMERA, CameraModel
from nav_monitor_ros.sim.detectors import Detector
from nav_monitor_ros.sim.drives import STEPS
from nav_monitor_ros.sim.robot.driver import PathDriver
from nav_monitor_ros.sim.robot.footprint import gap_to
from nav_monitor_ros.sim.robot.kinematics import ROBOT, RobotLimits, RobotState
from nav_monitor_ros.sim.shared_camera import SharedCamera
from nav_monitor_ros.sim.world.mjcf import UNKNOWN, CompiledWorld


@dataclass(frozen=True)
class LoopRules:
    """Timing of the loop."""

    latency: float = 0.1  # s from an image to its alert at the gate
    command_every: int = 3  # steps of the robot between two commands of the driver
    gate: GateRules = field(default_factory=GateRules)


@dataclass(frozen=True)
class LoopStep:
    """The state of the loop at one image."""

    time: float  # s
    state: RobotState
    alert: Alert | None  # the newest one that the gate has received
    gate: GateReason
    gap: float  # m from the footprint to the unknown object; infinite without one
    touched: bool  # whether there was contact with it since the previous image
    share: float | None  # of the pixels that show the unknown object; None if not computed
    image: np.ndarray | None  # as the camera delivered it; None without a detector


class ClosedLoop:
    """One robot in one world, stopped by a detector's alerts through the velocity gate."""

    def __init__(
        self,
        compiled: CompiledWorld,
        detector: Detector | None,
        *,
        seed: int,
        start: int = 0,
        rules: LoopRules | None = None,
        camera: CameraModel = CAMERA,
        robot: RobotLimits = ROBOT,
        shared_camera: SharedCamera | None = None,
    ) -> None:
        """Put the robot at a point of the world's path.

        Args:
            compiled: World.
            detector: Judges the images; None for a robot without a monitor, whose images are not
                even rendered.
            seed: Of the camera.
            start: Index in the world's path.
            rules: Timing.
            camera: The robot's camera.
            robot: The robot's limits.
            shared_camera: Camera of several loops through this world, with this seed and start.
        """
        self.world = compiled.world
        self._compiled = compiled
        self._detector = detector
        self._seed = seed
        self._rules = rules or LoopRules()
        self._camera = camera
        self._robot = robot
        self._shared_camera = shared_camera
        self._driver = PathDriver(self.world.path[start:], robot)

    def run(
        self, longest: float, wants_share: Callable[[float], bool] = lambda gap: False
    ) -> Iterator[LoopStep]:
        """Yield a step for each image until the robot arrives.

        Args:
            longest: s after which it ends.
            wants_share: Whether to compute the visible share of the unknown object at a gap in m.
        """
        if self._shared_camera is not None:
            yield from self._run(self._shared_camera, longest, wants_share)
            return
        with closing(SharedCamera(self._compiled, self._seed, self._camera)) as camera:
            yield from self._run(camera, longest, wants_share)

    def _run(
        self, camera: SharedCamera, longest: float, wants_share: Callable[[float], bool]
    ) -> Iterator[LoopStep]:
        images = camera.new_run()
        gate = VelocityGate(self._rules.gate, 0.0)
        state = RobotState(self._driver.start_pose())
        pending: list[tuple[float, Alert]] = []
        step = 1 / self._camera.rate / STEPS
        command, received, touched = ZERO, None, False
        if self._detector is not None:
            self._detector.restart()
        for number in range(round(longest * self._camera.rate)):
            time = number / self._camera.rate
            gap, image = self._gap(state), None
            share = camera.share(state.pose, UNKNOWN) if wants_share(gap) else None
            if self._detector is not None:
                image = images.image(time, state)
                now = time + self._rules.latency
                pending.append((now, self._detector.judge(image, time, now)))
            reason = gate.update(time) if self._detector else GateReason.PASSING
            yield LoopStep(time, state, received, reason, gap, touched or gap <= 0, share, image)
            touched = False
            for part in range(STEPS):
                now = time + part * step
                while pending and pending[0][0] <= now + 1e-9:
                    _, received = pending.pop(0)
                    gate.alert_received(received.value, now)
                if (number * STEPS + part) % self._rules.command_every == 0:
                    command = self._command(gate, state, now, command)
                state = state.moved(command.linear[0], command.angular[2], step, self._robot)
                touched |= self._gap(state) <= 0
            if self._driver.arrived:
                return

    def _command(
        self, gate: VelocityGate, state: RobotState, now: float, last: Velocity
    ) -> Velocity:
        """Return what the base receives: the driver's command, or what the gate sends instead."""
        speed, turn_rate = self._driver.command(state.pose)
        wanted = Velocity((speed, 0.0, 0.0), (0.0, 0.0, turn_rate))
        if self._detector is None:
            return wanted
        gate.loop_ran(now)
        passed = gate.command_received(wanted, now)
        if passed is not None:
            return passed
        sent = gate.timer_fired(now)
        return last if sent is None else sent

    def _gap(self, state: RobotState) -> float:
        unknown = self.world.unknown
        return np.inf if unknown is None else gap_to(state.pose, unknown, self._robot)
