"""p-values, budget thresholds and the fused score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from nav_monitor_ros.decision.calibration import (
    FUSED,
    CalibrationOptions,
    CalibrationScores,
    calibrate,
    fuse,
)
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.false_alarm_budget import images_needed, p_value_threshold
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.energy import Energy
from nav_monitor_ros.scores.msp import MaximumSoftmaxProbability


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


@pytest.mark.parametrize(('n', 'allowed'), [(1000, 4), (2000, 12), (299, 0)])
def test_the_threshold_allows_the_exact_binomial_count(n, allowed):
    assert p_value_threshold(n, 0.01, 0.95) == (allowed + 1) / (n + 1)


@given(
    st.integers(60, 5000),
    st.sampled_from([0.005, 0.01, 0.05, 0.1]),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_the_allowed_count_is_the_largest_that_keeps_the_confidence(n, alpha, confidence):
    if n < images_needed(alpha, confidence):
        with pytest.raises(NavMonitorError, match=str(images_needed(alpha, confidence))):
            p_value_threshold(n, alpha, confidence)
        return
    k = round(p_value_threshold(n, alpha, confidence) * (n + 1)) - 1
    assert binom.cdf(k, n, alpha) <= 1 - confidence < binom.cdf(k + 1, n, alpha)


def test_the_smallest_calibration_set_is_exactly_the_smallest():
    n = images_needed(0.01, 0.95)
    assert 0.99**n <= 0.05 < 0.99 ** (n - 1)


def test_the_budget_holds_with_the_stated_confidence():
    rng = np.random.default_rng(1)
    n, alpha, splits = 600, 0.02, 400
    threshold = p_value_threshold(n, alpha, 0.95)
    # The share of false alarms given the calibration set, exactly: scores are uniform on (0, 1),
    # so it is what lies above the smallest flagged score.
    k = round(threshold * (n + 1)) - 1
    rates = [1 - np.sort(rng.random(n))[n - 1 - k] for _ in range(splits)]
    assert np.mean(np.array(rates) <= alpha) >= 0.92


def _activations(rng, n, width=4):
    return Activations(
        rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, width)).astype(np.float32)
    )


def _scores():
    return {s.name: s(classes=3, width=4, head=None) for s in (Energy, MaximumSoftmaxProbability)}


def _calibrated(first, second, *, members=('energy', 'msp')):
    """Return the calibration of both scores by two sets of images."""
    sets = (
        None if images is None else CalibrationScores.of(_scores(), images)
        for images in (first, second)
    )
    options = CalibrationOptions(fusion_members=members, alpha=0.01, confidence=0.95)
    return calibrate(*sets, classes=3, options=options)


def test_the_fused_score_is_calibrated_on_images_of_its_own():
    rng = np.random.default_rng(2)
    first, second = _activations(rng, 500), _activations(rng, 700)
    scores = _scores()
    calibration = _calibrated(first, second)
    assert len(calibration.scores['energy']) == 1200
    assert len(calibration.fusion_p_values['energy']) == 500
    assert len(calibration.fused) == 700
    expected = sum(
        calibration.fusion_p_values[name].neg_log_p_values(score.score(second))
        for name, score in scores.items()
    )
    np.testing.assert_array_equal(calibration.fused.pooled.scores, np.sort(expected))


def test_fusing_is_fishers_sum():
    calibrated = {name: ConformalPValues(np.arange(100.0)) for name in 'ab'}
    scores = {'a': np.array([50.0, -1.0]), 'b': np.array([20.0, -1.0])}
    np.testing.assert_allclose(
        fuse(calibrated, scores, ['a', 'b']), [-np.log(51 / 101 * 81 / 101), 0.0]
    )


def test_minus_log_p_is_that_of_the_p_value_up_to_the_tail_and_grows_beyond_it():
    conformal = ConformalPValues(np.arange(1000.0))
    body = np.linspace(-5, 949, 50)
    np.testing.assert_allclose(conformal.neg_log_p_values(body), -np.log(conformal.p_values(body)))
    beyond = conformal.neg_log_p_values(np.array([950.0, 951.0, 2000.0, 20_000.0]))
    assert (np.diff(beyond) > 0).all()
    # The excess over the tail's start is even, with mean 25: no heavier than an exponential's, so
    # 1000 more are 40 more.
    far = conformal.neg_log_p_values(np.array([2000.0, 3000.0]))
    np.testing.assert_allclose(np.diff(far), 40.0)


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


def test_realised_false_alarms_of_the_fused_score_stay_within_the_budget():
    rng = np.random.default_rng(3)
    calibration = _calibrated(_activations(rng, 2000), _activations(rng, 2000))
    fresh = _activations(rng, 50_000)
    p = calibration.p_values(
        {name: s.score(fresh) for name, s in _scores().items()}, fresh.predicted
    )
    assert np.mean(p[FUSED] <= calibration.thresholds[FUSED][fresh.predicted]) <= 0.012


@given(st.floats(1e-4, 0.9), st.floats(0.01, 0.999))
@settings(deadline=None, max_examples=200)
def test_the_images_needed_are_those_for_which_there_is_a_threshold(alpha, confidence):
    n = images_needed(alpha, confidence)
    assert 0 < p_value_threshold(n, alpha, confidence) <= 1
    with pytest.raises(NavMonitorError, match='are needed'):
        p_value_threshold(n - 1, alpha, confidence)


def test_several_members_need_images_to_be_fused_by():
    rng = np.random.default_rng(2)
    with pytest.raises(NavMonitorError, match='several scores are fused by images of their own'):
        _calibrated(None, _activations(rng, 500))


def test_an_unknown_member_is_refused():
    rng = np.random.default_rng(2)
    with pytest.raises(NavMonitorError, match='pattern'):
        _calibrated(_activations(rng, 500), _activations(rng, 500), members=('pattern',))


def test_too_few_images_are_refused_with_the_number_needed():
    rng = np.random.default_rng(2)
    with pytest.raises(NavMonitorError, match='299 are needed'):
        _calibrated(_activations(rng, 500), _activations(rng, 200), members=('energy',))
