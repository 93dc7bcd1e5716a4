"""Images of a world from the robot's camera, and which object each pixel shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.sim.mujoco_library import gl_context, load_mujoco
from nav_monitor_ros.sim.robot.kinematics import Pose
from nav_monitor_ros.sim.world.mjcf import CompiledWorld

_MAX_GEOMS = 4000


@dataclass(frozen=True)
class CameraModel:
    """Where the camera sits and how much it sees."""

    width: int = 320  # pixels
    height: int = 240  # pixels
    rate: float = 15.0  # Hz
    above_floor: float = 0.3  # m
    ahead: float = 0.15  # m before the robot's centre
    field_of_view: float = math.radians(80.0)  # horizontal, rad
    pitch: float = 0.0  # rad, upwards

    @property
    def focal_length(self) -> float:
        """Return the focal length in pixels."""
        return self.width / 2 / math.tan(self.field_of_view / 2)

    @property
    def vertical_field_of_view(self) -> float:
        """Return the vertical field of view in rad."""
        return 2 * math.atan(self.height / 2 / self.focal_length)

    def position(self, pose: Pose) -> tuple[float, float, float]:
        """Return where the lens is, m."""
        return (
            pose.x + self.ahead * math.cos(pose.yaw), pose.y + self.ahead * math.sin(pose.yaw),
            self.above_floor,
        )


CAMERA = CameraModel()


class Renderer:
    """Renders one world; use it in one thread, and close it.

    Shadows are off, since software rendering takes seven times as long with them. Reflections are
    computed only in worlds that have a mirror.
    """

    def __init__(self, compiled: CompiledWorld, camera: CameraModel = CAMERA) -> None:
        """Prepare rendering.

        Raises:
            NavMonitorError: MuJoCo is not installed, or there is no OpenGL without a display.
        """
        gl_context()
        mujoco = load_mujoco()
        self._mujoco = mujoco
        self._camera = camera
        self._compiled = compiled
        model: Any = compiled.model
        model.vis.global_.offwidth = camera.width
        model.vis.global_.offheight = camera.height
        self._model = model
        self._data = mujoco.MjData(model)
        mujoco.mj_forward(model, self._data)
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = bool(
            (model.mat_reflectance > 0).any())
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = False
        self._option = mujoco.MjvOption()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._viewport = mujoco.MjrRect(0, 0, camera.width, camera.height)
        self._view = mujoco.MjvCamera()
        mujoco.mjv_updateScene(
            model, self._data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL,
            self._scene)
        self._label_numbers = {
            label: number for number, label in enumerate(dict.fromkeys(compiled.labels))}
        self._label_of_geom = np.array(
            [self._label_numbers[label] for label in compiled.labels] + [-1])

    def __enter__(self) -> Renderer:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Release the memory of the graphics library."""
        self._context.free()

    def image(self, pose: Pose) -> np.ndarray:
        """Return what an ideal camera sees, uint8 (height, width, 3) RGB."""
        self._place(pose)
        return self._render()

    def labels(self, pose: Pose) -> dict[str, float]:
        """Return the share of the pixels that each label covers, in [0, 1]."""
        places = self.geoms(pose)
        numbers = self._label_of_geom[places]
        counts = np.bincount(numbers[numbers >= 0], minlength=len(self._label_numbers))
        return {
            label: float(counts[number] / places.size)
            for label, number in self._label_numbers.items()
        }

    def geoms(self, pose: Pose) -> np.ndarray:
        """Return the geom that each pixel shows, int (height, width); -1 for none."""
        flags = self._mujoco.mjtRndFlag
        self._place(pose)
        self._scene.flags[flags.mjRND_SEGMENT] = True
        self._scene.flags[flags.mjRND_IDCOLOR] = True
        reflection = self._scene.flags[flags.mjRND_REFLECTION]
        self._scene.flags[flags.mjRND_REFLECTION] = False
        try:
            colors = self._render().astype(np.int32)
        finally:
            self._scene.flags[flags.mjRND_SEGMENT] = False
            self._scene.flags[flags.mjRND_IDCOLOR] = False
            self._scene.flags[flags.mjRND_REFLECTION] = reflection
        segments = colors[..., 0] + (colors[..., 1] << 8) + (colors[..., 2] << 16)
        ids = np.full(self._scene.ngeom + 1, -1)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            ids[geom.segid + 1] = geom.objid
        return ids[np.clip(segments, 0, self._scene.ngeom)]

    def _place(self, pose: Pose) -> None:
        """Put the camera of the scene where the robot's is."""
        camera = self._camera
        x, y, z = camera.position(pose)
        cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
        forward = (math.cos(pose.yaw) * cos, math.sin(pose.yaw) * cos, sin)
        up = (-math.cos(pose.yaw) * sin, -math.sin(pose.yaw) * sin, cos)
        near = 0.02
        half_height = near * math.tan(camera.vertical_field_of_view / 2)
        for one in self._scene.camera:  # both eyes
            one.pos[:] = (x, y, z)
            one.forward[:] = forward
            one.up[:] = up
            one.frustum_center = 0.0
            one.frustum_width = half_height * camera.width / camera.height
            one.frustum_bottom, one.frustum_top = -half_height, half_height
            one.frustum_near, one.frustum_far = near, 80.0

    def _render(self) -> np.ndarray:
        mujoco, camera = self._mujoco, self._camera
        pixels = np.empty((camera.height, camera.width, 3), np.uint8)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, self._viewport, self._context)
        return pixels[::-1]
