"""The images of several runs through one world: where runs begin alike, they are rendered once."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from nav_monitor_ros.sim.camera.effects import CameraEffects
from nav_monitor_ros.sim.camera.rendering import CAMERA, CameraModel, Renderer
from nav_monitor_ros.sim.drives import start_of_day
from nav_monitor_ros.sim.robot.kinematics import Pose, RobotState
from nav_monitor_ros.sim.world.mjcf import CompiledWorld


@dataclass(eq=False)
class _Node:
    """An image, what the camera remembers after it, and the images that may follow it."""

    effects: CameraEffects
    image: np.ndarray | None = None  # None before the first image
    following: dict[RobotState, _Node] = field(default_factory=dict)


class SharedCamera:
    """The camera of all runs through one world; use it in one thread, and close it.

    An image depends on the robot's state and on all earlier images of the run (exposure, noise).
    All runs that have had the same states so far get the same array.
    """

    def __init__(self, compiled: CompiledWorld, seed: int, camera: CameraModel = CAMERA) -> None:
        """Prepare the camera; rendering is prepared when the first image is needed.

        Args:
            compiled: World.
            seed: Of the camera's effects.
            camera: Its properties.
        """
        self._compiled = compiled
        self._camera = camera
        self._first = _Node(CameraEffects(seed, start_of_day(seed), camera=camera))
        self._renderer: Renderer | None = None
        self._shares: dict[tuple[Pose, str], float] = {}

    def close(self) -> None:
        """Release the images and the memory of the graphics library."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._first.following.clear()
        self._shares.clear()

    def new_run(self) -> CameraRun:
        """Return the camera at the beginning of a run."""
        return CameraRun(self)

    def share(self, pose: Pose, label: str) -> float:
        """Return the share of the pixels that a label covers, in [0, 1].

        Raises:
            NavMonitorError: As for ``Renderer``.
        """
        key = pose, label
        if key not in self._shares:
            self._shares[key] = self._prepared().labels(pose).get(label, 0.0)
        return self._shares[key]

    def following(self, node: _Node, time: float, state: RobotState) -> _Node:
        """Return the node of the next image after another one; see ``CameraRun.image``."""
        found = node.following.get(state)
        if found is None:
            found = _Node(copy.copy(node.effects))
            ideal = self._prepared().image(state.pose)
            found.image = found.effects.apply(ideal, time, state.turn_rate)
            found.image.flags.writeable = False  # several runs share it
            node.following[state] = found
        return found

    def _prepared(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self._compiled, self._camera)
        return self._renderer


class CameraRun:
    """One run of a shared camera."""

    def __init__(self, shared: SharedCamera) -> None:
        """Begin the run."""
        self._shared = shared
        self._node = shared._first

    def image(self, time: float, state: RobotState) -> np.ndarray:
        """Return the next image, uint8 (height, width, 3) RGB, read-only.

        Args:
            time: s since the start; the n-th image of each run has the same time.
            state: Of the robot.

        Raises:
            NavMonitorError: As for ``Renderer``.
        """
        self._node = self._shared.following(self._node, time, state)
        assert self._node.image is not None
        return self._node.image
