"""Drift of the p-values as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.decision.drift import Drift
from nav_monitor_ros.errors import NavMonitorError


def drifted(p_values, window=600.0, elapsed=1.0):
    drift = Drift(window)
    for p in p_values:
        drift.update(float(p), elapsed)
    return drift.finding


def test_uniform_p_values_are_no_drift():
    rng = np.random.default_rng(2)
    drift = Drift(600.0)
    for p in rng.uniform(size=20_000):  # five and a half hours of samples
        drift.update(float(p), 1.0)
        assert drift.finding == ''


def test_p_values_that_became_small_as_a_whole_are_drift():
    rng = np.random.default_rng(3)
    assert 'at or below' in drifted(rng.uniform(size=600) ** 2)
    assert drifted(rng.uniform(size=600) ** 0.5) == ''  # more usual than the calibration


def test_one_scene_for_an_hour_is_no_drift():
    assert drifted([0.02] * 3600) == ''
    rng = np.random.default_rng(5)
    scenes = np.repeat(rng.uniform(size=10), 60)  # a minute each
    assert drifted(scenes) == ''


def test_p_values_before_the_window_do_not_count():
    rng = np.random.default_rng(3)
    assert drifted([*(rng.uniform(size=600) ** 3), *rng.uniform(size=700)]) == ''


def test_frames_between_samples_do_not_count():
    assert drifted(np.random.default_rng(3).uniform(size=600) ** 2, elapsed=1 / 30) == ''


def test_a_window_of_zero_reports_nothing_and_a_short_one_is_refused():
    assert drifted([0.001, 0.002] * 500, window=0.0) == ''
    with pytest.raises(NavMonitorError, match='drift_window'):
        Drift(10.0)
