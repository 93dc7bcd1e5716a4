"""What lens, sensor and light do to an image: blur, exposure, noise, dirt and the time of day."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.sim.camera.rendering import CAMERA, CameraModel


@dataclass(frozen=True)
class EffectRules:
    """Strength of the effects."""

    exposure_time: float = 0.02  # s, for motion blur
    target: float = 0.42  # mean brightness that the automatic exposure aims at, in [0, 1]
    exposure_speed: float = 1.5  # 1/s, at which it adapts
    read_noise: float = 1.2  # gray levels
    shot_noise: float = 0.35  # gray levels at brightness 1, times the square root of it
    dirt_spots: int = 4  # at most
    daylight_change: float = 0.35  # share by which the light changes over the hour
    warmth_change: float = 0.08  # share by which red and blue change against each other


RULES = EffectRules()
_DAY = 3600.0  # s in which the light changes through all of its states


class CameraEffects:
    """The effects of one camera on one drive; images must be given in order."""

    def __init__(
        self, seed: int, start: float = 0.0, rules: EffectRules = RULES,
        camera: CameraModel = CAMERA,
    ) -> None:
        """Draw the dirt on the lens and the phase of the light.

        Args:
            seed: Of everything random.
            start: Time of the day at the first image, s.
            rules: Strength of the effects.
            camera: Its images.
        """
        rng = np.random.default_rng([seed, 2])
        self._seed = seed
        self._start = start
        self._rules = rules
        self._camera = camera
        self._phase = rng.uniform(0, 2 * np.pi, 2)
        self._mask = _vignette(camera) * _dirt(rng, rules, camera)
        self._gain: float | None = None
        self._time = 0.0
        self._count = 0

    def apply(self, image: np.ndarray, time: float, turn_rate: float = 0.0) -> np.ndarray:
        """Return the image as the camera delivers it.

        Args:
            image: Ideal image, uint8 (height, width, 3).
            time: s since the start of the drive.
            turn_rate: Of the robot, rad/s, for motion blur.

        Returns:
            uint8 of the same shape. Equal for equal seeds and equal earlier calls.
        """
        rules = self._rules
        # A new generator for each image: skipping one does not change the others.
        rng = np.random.default_rng([self._seed, 3, self._count])
        self._count += 1
        seen = _motion_blur(image, abs(turn_rate) * rules.exposure_time * self._camera.focal_length)
        light = self.light(time)
        scene = seen.astype(np.float32) / 255 * (self._mask * light)
        gain = self._exposure(float(scene.mean()), time)
        pixels = 255 * gain * scene
        noise = rng.standard_normal(pixels.shape, np.float32)
        pixels += noise * (
            rules.read_noise * math.sqrt(gain) + rules.shot_noise * np.sqrt(np.maximum(pixels, 0)))
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    def light(self, time: float) -> np.ndarray:
        """Return the factors on red, green and blue at a time, float32 (3,)."""
        angle = 2 * np.pi * (self._start + time) / _DAY
        level = 1 + self._rules.daylight_change * math.sin(angle + self._phase[0])
        warmth = self._rules.warmth_change * math.sin(angle + self._phase[1])
        return np.array([1 + warmth, 1, 1 - warmth], np.float32) * level

    def _exposure(self, brightness: float, time: float) -> float:
        """Return the gain of the automatic exposure, which lags behind the scene."""
        wanted = float(np.clip(self._rules.target / max(brightness, 0.02), 0.4, 4.0))
        if self._gain is None:
            self._gain = wanted
        else:
            share = 1 - math.exp(-self._rules.exposure_speed * max(0.0, time - self._time))
            self._gain += share * (wanted - self._gain)
        self._time = time
        return self._gain


def _motion_blur(image: np.ndarray, length: float) -> np.ndarray:
    """Return an image blurred across by so many pixels."""
    if length < 0.5:
        return image
    whole = 2 * math.ceil(length / 2) + 1
    kernel = np.ones(whole, np.float32)
    kernel[[0, -1]] = max(0.0, (length + 1 - (whole - 2)) / 2)
    return cv2.filter2D(image, -1, kernel[None] / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _vignette(camera: CameraModel) -> np.ndarray:
    columns, rows = np.meshgrid(
        (np.arange(camera.width) + 0.5) / camera.width - 0.5,
        (np.arange(camera.height) + 0.5) / camera.height - 0.5)
    return (1 - 0.5 * (columns**2 + rows**2)).astype(np.float32)[..., None]


def _dirt(rng: np.random.Generator, rules: EffectRules, camera: CameraModel) -> np.ndarray:
    """Return the transmission of the lens, with out-of-focus spots, float32 (height, width, 1)."""
    clear = np.ones((camera.height, camera.width), np.float32)
    for _ in range(int(rng.integers(rules.dirt_spots + 1))):
        spot = np.zeros_like(clear)
        centre = (int(rng.integers(camera.width)), int(rng.integers(camera.height)))
        radius = int(rng.integers(3, 13))
        cv2.circle(spot, centre, radius, 1.0, -1)
        clear *= 1 - float(rng.uniform(0.05, 0.25)) * cv2.GaussianBlur(spot, (0, 0), 0.4 * radius)
    return clear[..., None]
