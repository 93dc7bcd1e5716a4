"""Drives without unknown objects, rendered once and judged by replay: false stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.sim.camera.effects import CameraEffects
from nav_monitor_ros.sim.camera.rendering import CAMERA, CameraModel, Renderer
from nav_monitor_ros.sim.detectors import ConsecutiveRule, Detector
from nav_monitor_ros.sim.drives import start_of_day, states_along
from nav_monitor_ros.sim.loop import LoopRules
from nav_monitor_ros.sim.robot.kinematics import ROBOT, RobotLimits
from nav_monitor_ros.sim.world.mjcf import compile_world
from nav_monitor_ros.sim.world.world import World, draw_world


@dataclass(frozen=True, eq=False)
class DriveRecord:
    """What a detector said about each image of a drive that nothing disturbs."""

    seed: int
    alert: np.ndarray  # bool (N,): the alert after each image
    ood: np.ndarray  # bool (N,): whether it was True because of unusual images
    scores: Mapping[str, np.ndarray]  # name -> float (N,): for other thresholds on the same images
    rate: float = CAMERA.rate  # Hz

    @property
    def seconds(self) -> float:
        """Return the duration in s."""
        return len(self.alert) / self.rate

    @property
    def false_stops(self) -> int:
        """Return the number of rising edges of the alert with reason ``ood``."""
        return rising_edges(self.ood)


def record_drive(
    seed: int,
    detector: Detector,
    scores: Callable[[np.ndarray], Mapping[str, float]] = lambda image: {},
    *,
    rules: LoopRules | None = None,
    unseen_dress: bool = False,
    camera: CameraModel = CAMERA,
    world: World | None = None,
) -> DriveRecord:
    """Render a drive and judge its images.

    Args:
        seed: Of the world and the camera.
        detector: Judges the images in order.
        scores: Returns the scores of an image to keep, by name, after the detector has judged it.
        rules: Timing; the latency of the alert.
        unseen_dress: As for ``draw_world``; such drives are reported apart.
        camera: The robot's camera.
        world: World to drive through; by default that of the seed.

    Raises:
        NavMonitorError: MuJoCo is not installed, or there is no OpenGL without a display.
    """
    world = world or draw_world(seed, unseen_dress=unseen_dress)
    effects = CameraEffects(seed, start_of_day(seed), camera=camera)
    latency = (rules or LoopRules()).latency
    alerts, ood, kept = [], [], []
    detector.restart()
    with Renderer(compile_world(world), camera) as renderer:
        for time, state in states_along(world, camera):
            image = effects.apply(renderer.image(state.pose), time, state.turn_rate)
            alert = detector.judge(image, time, time + latency)
            alerts.append(alert.value)
            ood.append(alert.value and alert.reason is Reason.OOD)
            kept.append(scores(image))
    names = kept[0] if kept else {}
    return DriveRecord(
        seed, np.array(alerts, bool), np.array(ood, bool),
        {name: np.array([one[name] for one in kept]) for name in names}, camera.rate)


def rising_edges(values: np.ndarray) -> int:
    """Return how often values, bool (N,), become True; one that starts True counts."""
    return int((values[1:] > values[:-1]).sum() + bool(len(values) and values[0]))


def distance_share(record: DriveRecord, robot: RobotLimits = ROBOT) -> float:
    """Return the distance that the robot covers, as a share of that without a monitor.

    The drive is replayed at the speed limit: while the alert is True the robot stands, and each
    stop costs the time for braking and for accelerating again. The alert until the first verdicts
    are there is left out, since it delays the start of the robot only once.
    """
    first = int(np.argmin(record.alert)) if len(record.alert) else 0
    alert = record.alert[first:]
    if not len(alert):
        return 1.0
    stops = rising_edges(alert)
    lost = alert.sum() / record.rate + stops * robot.speed / 2 * (
        1 / robot.acceleration - 1 / robot.braking)
    return float(max(0.0, 1 - lost / (len(alert) / record.rate + lost)))


def threshold_for(scores: Sequence[np.ndarray], allowed: int) -> float:
    """Return a threshold with which several images in a row make so many false stops.

    Args:
        scores: Scores of the images of each drive, (N,) each; larger = more unusual.
        allowed: False stops on all drives together.

    Returns:
        The smallest threshold, among the scores, from which on there are at most so many.
    """
    values = np.unique(np.concatenate(scores))
    low, high = 0, len(values) - 1  # at the largest score nothing is above
    while low < high:
        middle = (low + high) // 2
        if _stops(scores, values[middle]) <= allowed:
            high = middle
        else:
            low = middle + 1
    return float(values[high])


def _stops(scores: Sequence[np.ndarray], threshold: float) -> int:
    total = 0
    for drive in scores:
        rule = ConsecutiveRule(threshold)
        total += rising_edges(np.array([rule.update(float(score)) for score in drive], bool))
    return total
