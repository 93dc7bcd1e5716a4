"""Thresholds that keep the false-alarm budget, and effective sample sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from nav_monitor_ros.decision.false_alarm_budget import (
    effective_sample_size,
    images_for_a_class,
    images_needed,
    p_value_threshold,
)
from nav_monitor_ros.errors import NavMonitorError


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


@given(st.floats(1e-4, 0.9), st.floats(0.01, 0.999))
@settings(deadline=None, max_examples=200)
def test_the_images_needed_are_those_for_which_there_is_a_threshold(alpha, confidence):
    n = images_needed(alpha, confidence)
    assert 0 < p_value_threshold(n, alpha, confidence) <= 1
    with pytest.raises(NavMonitorError, match='are needed'):
        p_value_threshold(n - 1, alpha, confidence)


@pytest.mark.parametrize(('alpha', 'confidence'), [(0.01, 0.95), (0.05, 0.9), (0.001, 0.99)])
def test_a_class_of_its_own_can_use_half_of_its_budget(alpha, confidence):
    n = images_for_a_class(alpha, confidence)
    assert p_value_threshold(n, alpha, confidence) >= alpha / 2
    assert n >= images_needed(alpha, confidence)
    assert p_value_threshold(round(0.9 * n), alpha, confidence) < alpha / 2


def test_the_effective_size_of_independent_images_is_their_number():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=1000)
    assert effective_sample_size(scores, np.arange(1000)) == 1000
    # Groups that mean nothing cost next to nothing.
    assert effective_sample_size(scores, np.arange(1000) // 10) > 700


def test_copies_count_once():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200)
    size = effective_sample_size(np.repeat(scores, 10), np.repeat(np.arange(200), 10))
    assert 190 <= size <= 200
    assert effective_sample_size(scores, np.zeros(200)) == 1


def test_ties_do_not_increase_the_effective_size():
    scores = np.zeros(1000)
    scores[:20] = 1.0  # all of the high ones are in one group of 50
    assert effective_sample_size(scores, np.arange(1000) // 20) < 100
    assert effective_sample_size(np.zeros(1000), np.arange(1000) // 20) == 50


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.data())
def test_the_effective_size_is_a_number_of_images(scores, data):
    groups = data.draw(
        st.lists(st.integers(0, 5), min_size=len(scores), max_size=len(scores))
    )
    assert 1 <= effective_sample_size(np.array(scores, float), np.array(groups)) <= len(scores)
