"""The monitor and single scores of it as detectors of the loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny

from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.sim.monitor_detectors import MonitorDetector, ScoreDetector


@pytest.fixture(scope='module')
def monitor(tiny_bundle):
    return Monitor(tiny_bundle, device='cpu', also=['msp'], trusted_packages=['tiny'])


@pytest.fixture(scope='module')
def frames():
    pixels, _ = tiny.images(7, 12)
    return [np.repeat(p.reshape(*p.shape[:2], -1)[..., :1], 3, axis=2) for p in pixels]


def test_the_monitor_warms_up_and_keeps_the_scores_of_the_last_image(monitor, frames):
    detector = MonitorDetector(monitor)
    first = detector.judge(frames[0], 0.0, 0.1)
    assert first.value and first.reason is Reason.WARMING_UP
    assert {'msp', 'fused'} <= set(detector.scores)
    assert all(math.isfinite(value) for value in detector.scores.values())
    blank = detector.judge(np.zeros_like(frames[0]), 1 / 15, 1 / 15 + 0.1)
    assert blank.value and blank.reason is Reason.BAD_IMAGE
    detector.restart()
    assert detector.judge(frames[1], 0.0, 0.1).reason is Reason.WARMING_UP


@pytest.mark.parametrize(('threshold', 'alert'), [(-math.inf, True), (math.inf, False)])
def test_a_score_above_its_threshold_for_three_images_raises_the_alert(
    monitor, frames, threshold, alert
):
    detector = ScoreDetector(monitor, 'msp', threshold)
    alerts = [detector.judge(frame, n / 15, n / 15 + 0.1) for n, frame in enumerate(frames[:3])]
    assert [one.value for one in alerts] == [False, False, alert]
    assert alerts[2].reason is (Reason.OOD if alert else Reason.IN_DISTRIBUTION)
