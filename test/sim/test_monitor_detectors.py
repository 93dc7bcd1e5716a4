"""The monitor and single scores of it as detectors of the loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny

from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.sim.monitor_detectors import (
    MonitorDetector,
    ScoreDetector,
    SharedObservations,
)


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


def test_shared_images_are_judged_once_and_alike(monitor, frames, monkeypatch):
    looks = []
    plain = Monitor.look
    monkeypatch.setattr(
        Monitor, 'look', lambda *a, **k: (looks.append(None), plain(*a, **k))[1])
    shared = SharedObservations(monitor)
    images = [*frames[:4], np.zeros_like(frames[0])]

    def run(shared):
        detectors = [MonitorDetector(monitor, shared=shared),
                     ScoreDetector(monitor, 'msp', -math.inf, shared)]
        return [
            [detector.judge(image, n / 15, n / 15 + 0.1) for n, image in enumerate(images)]
            for detector in detectors
        ]

    together = run(shared)
    assert len(looks) == len(images)
    assert together == run(None)
    assert together[0][-1].reason is Reason.BAD_IMAGE
    shared.forget()
    run(shared)
    assert len(looks) == 4 * len(images)


def test_scores_over_several_images_cannot_be_shared(tiny_bundle):
    monitor = Monitor(tiny_bundle, device='cpu', also=['window_kl'], trusted_packages=['tiny'])
    with pytest.raises(NavMonitorError, match='window_kl depends on earlier images'):
        SharedObservations(monitor)
