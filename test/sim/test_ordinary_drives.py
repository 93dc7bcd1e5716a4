"""False stops, their cost in distance, and thresholds with a given number of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.sim.detectors import CLEAR, ColorHistogram, ConsecutiveRule, Detector
from nav_monitor_ros.sim.ordinary_drives import (
    DriveRecord,
    distance_share,
    record_drive,
    rising_edges,
    threshold_for,
)
from nav_monitor_ros.sim.world.world import draw_world


def record(alert, ood=None):
    values = np.array(alert, bool)
    return DriveRecord(0, values, values if ood is None else np.array(ood, bool), {}, 10.0)


def test_a_false_stop_is_a_rising_edge_of_unusual_images():
    assert rising_edges(np.array([0, 1, 1, 0, 1], bool)) == 2
    assert rising_edges(np.array([1, 0], bool)) == 1 and rising_edges(np.array([], bool)) == 0
    # The alert before the first verdicts has another reason.
    drive = record([1, 1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1, 0])
    assert drive.false_stops == 1 and drive.seconds == pytest.approx(0.7)


def test_distance_is_lost_while_the_alert_is_true_and_by_starting_again():
    assert distance_share(record([0] * 100)) == 1.0
    assert distance_share(record([1] * 5 + [0] * 100)) == 1.0  # only the start is later
    # 10 s of path, 2 s of alert, and 0.25 s longer to accelerate than to brake.
    once = distance_share(record([0] * 40 + [1] * 20 + [0] * 40))
    assert once == pytest.approx(10 / (10 + 2 + 0.25))


def test_consecutive_images_raise_and_lower_the_alert():
    rule = ConsecutiveRule(0.5, enter=3, leave=2)
    scores = [1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 1]
    assert [rule.update(s) for s in scores] == [
        False, False, False, False, False, True, True, True, True, False, False]


def test_a_threshold_allows_so_many_false_stops():
    rng = np.random.default_rng(0)
    drives = [rng.normal(size=500) for _ in range(4)]
    for drive in drives[:3]:
        drive[100:110] = 50 + rng.random()
    assert threshold_for(drives, 3) < 49 < threshold_for(drives, 2)

    def stops(threshold):
        total = 0
        for drive in drives:
            rule = ConsecutiveRule(threshold)
            total += rising_edges(np.array([rule.update(s) for s in drive]))
        return total

    assert stops(threshold_for(drives, 3)) <= 3
    assert stops(threshold_for(drives, 1)) <= 1


def test_colours_like_those_of_training_have_a_small_distance():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 40, 40, 3), np.uint8)
    images[..., 1] //= 4
    colors = ColorHistogram(images)
    assert colors.score(images[1]) == pytest.approx(0, abs=1e-3)
    green = np.zeros((40, 40, 3), np.uint8) + np.array([10, 250, 10], np.uint8)
    assert colors.score(green) > 0.8


class Dark(Detector):
    """Raises the alert on every tenth image."""

    def restart(self):
        self.seen = []

    def judge(self, image, taken, now):
        self.seen.append((image, taken, now))
        if len(self.seen) % 10:
            return CLEAR
        return Alert(True, State.OOD, Reason.OOD)


def test_a_drive_is_recorded_image_by_image():
    pytest.importorskip('mujoco')
    world = draw_world(3, pieces=1)
    world = replace(world, path=world.path[:40], lamps=world.lamps[:1], things=())
    detector = Dark()
    found = [
        record_drive(3, detector, lambda image: {'mean': float(image.mean())}, world=world)
        for _ in range(2)
    ]
    assert len(found[0].alert) == len(detector.seen) > 20
    assert found[0].false_stops == len(found[0].alert) // 10
    assert np.array_equal(found[0].scores['mean'], found[1].scores['mean'])
    _, taken, now = detector.seen[15]
    assert taken == pytest.approx(1.0) and now == pytest.approx(1.1)
