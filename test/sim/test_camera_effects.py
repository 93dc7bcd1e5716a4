"""What the camera adds to an image, and that it is repeated by the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nav_monitor_ros.sim.camera.effects import RULES, CameraEffects
from nav_monitor_ros.sim.camera.rendering import CAMERA

CLEAN = replace(RULES, read_noise=0.0, shot_noise=0.0, dirt_spots=0, daylight_change=0.0,
                warmth_change=0.0)
GRAY = np.full((CAMERA.height, CAMERA.width, 3), 100, np.uint8)


def edge():
    image = GRAY.copy()
    image[:, 160:] = 200
    return image


def test_equal_seeds_give_equal_images_and_others_do_not():
    runs = [[CameraEffects(seed).apply(GRAY, 0.0), CameraEffects(seed).apply(GRAY, 0.0)]
            for seed in (1, 2)]
    assert np.array_equal(*runs[0])
    assert not np.array_equal(runs[0][0], runs[1][0])
    effects = CameraEffects(1)
    first, second = effects.apply(GRAY, 0.0), effects.apply(GRAY, 0.0)
    assert not np.array_equal(first, second)  # noise is drawn anew


def test_turning_blurs_across_and_standing_does_not():
    still = CameraEffects(1, rules=CLEAN).apply(edge(), 0.0, 0.0).astype(int)
    turning = CameraEffects(1, rules=CLEAN).apply(edge(), 0.0, 1.2).astype(int)
    assert np.abs(np.diff(still[120, :, 0])).max() > 50
    # 1.2 rad/s over 20 ms at a focal length of 191 pixels: 4.6 pixels.
    assert 3 <= (np.abs(np.diff(turning[120, 150:170, 0])) > 5).sum() <= 6


def test_noise_has_the_strength_of_the_rules():
    rules = replace(CLEAN, read_noise=2.0, target=100 / 255)
    image = CameraEffects(1, rules=rules).apply(GRAY, 0.0)
    clean = CameraEffects(1, rules=replace(rules, read_noise=0.0)).apply(GRAY, 0.0)
    noise = image.astype(float) - clean
    assert noise.std() == pytest.approx(2.0, rel=0.15)


def test_exposure_follows_the_scene_with_a_lag():
    effects = CameraEffects(1, rules=CLEAN)
    before = effects.apply(GRAY, 0.0).mean()
    assert before == pytest.approx(255 * CLEAN.target, rel=0.03)
    dark = GRAY // 2
    at_once = effects.apply(dark, 1 / 15).mean()
    assert at_once < 0.6 * before
    later = [effects.apply(dark, time).mean() for time in (1.0, 2.0, 4.0)]
    assert at_once < later[0] < later[1] < later[2]
    assert later[2] == pytest.approx(before, rel=0.03)


def test_the_light_changes_over_the_hour_and_returns():
    effects = CameraEffects(3)
    levels = np.array([effects.light(time) for time in np.linspace(0, 3600, 61)])
    assert np.allclose(levels[0], levels[-1], atol=1e-5)
    green = levels[:, 1]
    assert green.max() / green.min() > 1.5
    assert np.abs(np.diff(green)).max() < 0.05  # slow: within a minute hardly anything happens
    ratio = levels[:, 0] / levels[:, 2]
    assert ratio.max() > 1.1 > 0.9 > ratio.min()


def test_dirt_darkens_the_same_places_in_every_image():
    for seed in range(20):
        effects = CameraEffects(seed, rules=replace(CLEAN, dirt_spots=4))
        mask = effects._mask[..., 0] / CameraEffects(seed, rules=CLEAN)._mask[..., 0]
        if mask.min() < 0.95:
            break
    dirty = np.unravel_index(int(mask.argmin()), mask.shape)
    first, second = (effects.apply(GRAY, time).astype(float) for time in (0.0, 0.1))
    for image in (first, second):
        assert image[dirty].mean() < 0.97 * np.median(image)
