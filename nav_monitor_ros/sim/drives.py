"""Drives: a robot that follows the path of a world, and the labelled images of its camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.sim.camera.effects import CameraEffects
from nav_monitor_ros.sim.camera.rendering import CAMERA, CameraModel, Renderer
from nav_monitor_ros.sim.labels import AHEAD_CLASSES, what_is_ahead
from nav_monitor_ros.sim.robot.driver import PathDriver
from nav_monitor_ros.sim.robot.kinematics import RobotState
from nav_monitor_ros.sim.world.mjcf import FREE, compile_world
from nav_monitor_ros.sim.world.world import World, draw_world

STEPS = 4  # of the robot's motion for each image
LONGEST = 300.0  # s of a drive
LEAST_SHARE = 0.002  # of the pixels that something ahead must cover to be what is ahead


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one or several drives."""

    images: np.ndarray  # uint8 (N, height, width, 3) RGB
    labels: np.ndarray  # int64 (N,): index in AHEAD_CLASSES
    drives: np.ndarray  # int64 (N,): seed of the drive that an image belongs to
    times: np.ndarray  # float64 (N,): s since the start of its drive

    def counts(self) -> dict[str, int]:
        """Return how many images show each class."""
        found = Counter(AHEAD_CLASSES[label] for label in self.labels)
        return {name: found[name] for name in AHEAD_CLASSES}


def states_along(
    world: World, camera: CameraModel = CAMERA
) -> Iterator[tuple[float, RobotState]]:
    """Yield the time in s and the state of an undisturbed robot at each image, from the start."""
    driver = PathDriver(world.path)
    state = RobotState(driver.start_pose())
    number = 0
    while not driver.arrived and number < LONGEST * camera.rate:
        yield number / camera.rate, state
        speed, turn_rate = driver.command(state.pose)
        for _ in range(STEPS):
            state = state.moved(speed, turn_rate, 1 / camera.rate / STEPS)
        number += 1


def start_of_day(seed: int) -> float:
    """Return the time within the hour at which a drive begins, s."""
    return float(np.random.default_rng([seed, 4]).uniform(0, 3600))


def label_of(world: World, state: RobotState, shares: dict[str, float]) -> str:
    """Return the class of an image: what is ahead, or ``free`` if it is hardly visible.

    Args:
        world: World without an unknown object.
        state: Of the robot.
        shares: Share of the pixels that each label covers; see ``Renderer.labels``.
    """
    label, _ = what_is_ahead(state.pose, world)
    return label if shares.get(label, 0.0) >= LEAST_SHARE else FREE


def labelled_drive(
    seed: int, *, every: int = 8, free_share: float = 0.5, size: tuple[int, int] = (128, 96),
    pieces: int = 4,
) -> LabelledImages:
    """Render one drive without unknown objects and return some of its images with labels.

    Args:
        seed: Of world, camera and choice of images.
        every: Every so many images of the camera are looked at.
        free_share: Share of the images with nothing ahead that are kept; they are the majority.
        size: Width and height to which images are reduced, pixels.
        pieces: As for ``draw_world``.

    Raises:
        NavMonitorError: MuJoCo is not installed, or there is no OpenGL without a display.
    """
    world = draw_world(seed, pieces=pieces)
    effects = CameraEffects(seed, start_of_day(seed))
    rng = np.random.default_rng([seed, 5])
    images, labels, times = [], [], []
    with Renderer(compile_world(world)) as renderer:
        for number, (time, state) in enumerate(states_along(world)):
            if number % every:
                continue
            label, _ = what_is_ahead(state.pose, world)
            if label != FREE:
                label = label_of(world, state, renderer.labels(state.pose))
            elif rng.random() >= free_share:
                continue
            image = effects.apply(renderer.image(state.pose), time, state.turn_rate)
            images.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
            labels.append(AHEAD_CLASSES.index(label))
            times.append(time)
    return LabelledImages(
        np.array(images, np.uint8).reshape(-1, size[1], size[0], 3), np.array(labels, np.int64),
        np.full(len(labels), seed, np.int64), np.array(times))


def joined(drives: list[LabelledImages]) -> LabelledImages:
    """Return the images of several drives, one drive after another."""
    return LabelledImages(
        np.concatenate([drive.images for drive in drives]),
        np.concatenate([drive.labels for drive in drives]),
        np.concatenate([drive.drives for drive in drives]),
        np.concatenate([drive.times for drive in drives]),
    )
