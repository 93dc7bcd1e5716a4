"""Conformal p-values, and their logarithm beyond the calibration scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.errors import NavMonitorError


def test_a_p_value_is_the_share_of_images_at_least_as_unusual():
    conformal = ConformalPValues(np.array([1.0, 2.0, 3.0, 4.0]))
    assert conformal.p_value(0.5) == 1.0
    assert conformal.p_value(2.5) == 3 / 5
    assert conformal.p_value(9.0) == 1 / 5


def test_a_tie_counts_as_at_least_as_unusual():
    conformal = ConformalPValues(np.array([0.0, 3.0, 3.0, 3.0]))
    assert conformal.p_value(3.0) == 4 / 5


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    st.lists(st.floats(-6, 6, allow_nan=False), min_size=1, max_size=20),
)
def test_many_p_values_equal_single_ones_and_the_definition(calibration, scores):
    conformal = ConformalPValues(np.array(calibration, float))
    expected = [
        (1 + sum(c >= s for c in calibration)) / (len(calibration) + 1) for s in scores
    ]
    assert conformal.p_values(np.array(scores)).tolist() == expected
    assert [conformal.p_value(s) for s in scores] == expected


@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.floats(0.001, 1))
def test_p_values_of_exchangeable_images_are_super_uniform(scores, level):
    """Each image against all others: at most a share ``level`` may have p <= level."""
    values = np.array(scores, float)
    p = [ConformalPValues(np.delete(values, i)).p_value(values[i]) for i in range(len(values))]
    assert np.mean(np.array(p) <= level) <= level + 1e-12


def test_nan_and_nothing_are_refused():
    with pytest.raises(NavMonitorError, match='not a finite number'):
        ConformalPValues(np.array([1.0, np.nan]))
    with pytest.raises(NavMonitorError, match='not a finite number'):
        ConformalPValues(np.array([1.0, np.inf]))
    with pytest.raises(NavMonitorError, match='needs images'):
        ConformalPValues(np.array([]))


def test_minus_log_p_is_that_of_the_p_value_up_to_the_tail_and_grows_beyond_it():
    conformal = ConformalPValues(np.arange(1000.0))
    body = np.linspace(-5, 949, 50)
    known = np.round(body)  # calibration scores, or below all
    np.testing.assert_allclose(
        conformal.neg_log_p_values(known), -np.log(conformal.p_values(known)), atol=1e-12)
    beyond = conformal.neg_log_p_values(np.array([950.0, 951.0, 2000.0, 20_000.0]))
    assert (np.diff(beyond) > 0).all()
    # The excess over the tail's start is even, with mean 25: no heavier than an exponential's, so
    # 1000 more are 40 more.
    far = conformal.neg_log_p_values(np.array([2000.0, 3000.0]))
    np.testing.assert_allclose(np.diff(far), 40.0)


def test_minus_log_p_is_continuous():
    rng = np.random.default_rng(0)
    conformal = ConformalPValues(np.concatenate([rng.normal(size=200), [0.5, 0.5, 0.5]]))
    for at in (*conformal.scores, 0.1, -9.0):
        near = conformal.neg_log_p_values(np.array([at - 1e-9, at, at + 1e-9]))
        assert np.ptp(near) < 1e-5
        np.testing.assert_allclose(conformal.neg_log_p_value(at), near[1], atol=1e-12)
    grid = np.linspace(-4, 6, 500)
    assert (np.diff(conformal.neg_log_p_values(grid)) >= 0).all()


def test_a_heavy_tail_makes_far_scores_less_unusual():
    rng = np.random.default_rng(0)
    light = ConformalPValues(rng.exponential(size=20_000))
    heavy = ConformalPValues(rng.pareto(2.5, size=20_000))
    # Twenty times the largest score of calibration, in either case.
    far = [c.neg_log_p_values(20 * c.scores[-1:])[0] for c in (light, heavy)]
    assert far[0] > 80 and far[1] < 25


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=50))
def test_minus_log_p_never_decreases_and_is_finite(calibration):
    conformal = ConformalPValues(np.array(calibration, float))
    found = conformal.neg_log_p_values(np.linspace(-5, 9, 200))
    assert np.isfinite(found).all() and (np.diff(found) >= 0).all()


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=60),
    st.lists(st.floats(-50, 50), min_size=1, max_size=20),
)
def test_minus_log_p_of_one_frame_is_that_of_a_batch(calibration, scores):
    conformal = ConformalPValues(np.array(calibration))
    expected = conformal.neg_log_p_values(np.array(scores))
    np.testing.assert_allclose([conformal.neg_log_p_value(s) for s in scores], expected, rtol=1e-12)
