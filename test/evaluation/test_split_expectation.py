"""The share of splits in which a bound should hold, against scipy and against random splits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import betabinom, binom, nhypergeom

from nav_monitor_ros.decision.class_conditional_p_values import ClassConditionalPValues
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.false_alarm_budget import p_value_threshold
from nav_monitor_ros.evaluation.split_expectation import (
    SplitCell,
    share_of_splits_within,
    split_cells,
)


@pytest.mark.parametrize(
    ('n', 'k', 'm', 'alpha'),
    [(20, 0, 10, 0.1), (1000, 4, 2780, 0.01), (4400, 32, 15000, 0.01), (59, 0, 1, 0.05)],
)
def test_one_cell_is_the_beta_binomial_and_the_negative_hypergeometric_of_scipy(n, k, m, alpha):
    share = share_of_splits_within([SplitCell(n, k, m)], alpha)
    most = math.floor(alpha * m)
    assert share == pytest.approx(betabinom.cdf(most, m, k + 1, n - k), abs=1e-12)
    # Of n + m images in random order, m are tests; their number above the (k + 1)-th calibration
    # image from the top is a negative hypergeometric variable.
    assert share == pytest.approx(nhypergeom.cdf(most, n + m, m, k + 1), abs=1e-9)


def test_the_smallest_case_can_be_counted_by_hand():
    # Of 2 + 2 images in any of 6 orders, the first test image is above both calibration images in
    # 3, and both are in 1: at most one of two is flagged in 5 of 6 splits, none in 3 of 6.
    assert share_of_splits_within([SplitCell(2, 0, 2)], 0.5) == pytest.approx(5 / 6)
    assert share_of_splits_within([SplitCell(2, 0, 2)], 0.4) == pytest.approx(3 / 6)


def test_cells_add_up_as_independent_sums():
    cells = [SplitCell(60, 0, 40), SplitCell(120, 2, 25), SplitCell(90, 1, 35)]
    distribution = np.ones(1)
    for cell in cells:
        distribution = np.convolve(distribution, betabinom.pmf(
            np.arange(cell.tested + 1), cell.tested, cell.above + 1, cell.calibrated - cell.above
        ))
    for alpha in (0.0, 0.01, 0.05, 0.2, 0.999):
        wanted = distribution[: math.floor(alpha * 100) + 1].sum()
        assert share_of_splits_within(cells, alpha) == pytest.approx(wanted, abs=1e-12)


def test_a_cell_without_test_images_or_without_a_threshold_flags_nothing():
    cell = SplitCell(100, 1, 50)
    alone = share_of_splits_within([cell], 0.02)
    assert share_of_splits_within([cell, SplitCell(100, 3, 0)], 0.02) == pytest.approx(alone)
    assert share_of_splits_within([SplitCell(100, -1, 50)], 0.0) == 1.0


def test_a_share_that_rounding_puts_just_below_a_count_includes_it():
    # 0.29 * 100 is 28.999999999999996: 29 of 100 are a share of 0.29.
    assert 0.29 * 100 < 29
    one = share_of_splits_within([SplitCell(50, 12, 100)], 0.29)
    assert one == pytest.approx(betabinom.cdf(29, 100, 13, 38), abs=1e-12)


@pytest.mark.parametrize('least', [10_000, 150])
def test_random_splits_of_one_pool_hold_the_bound_as_often_as_expected(least):
    """Brute force: one pool of images, divided 1500 times as the calibration divides them."""
    rng = np.random.default_rng(3)
    pool, labels = rng.normal(size=900), rng.integers(0, 2, 900)
    alpha, held, expected, splits = 0.05, 0, [], 1500
    for _ in range(splits):
        order = rng.permutation(900)
        held_out, fresh = order[:600], order[600:]
        cells = np.zeros(2, np.int64) if least > 600 else np.arange(2)
        p_values = ClassConditionalPValues(pool[held_out], labels[held_out], cells)
        thresholds = p_values.thresholds(alpha, 0.95)
        flagged = p_values.p_values(pool[fresh], labels[fresh]) <= thresholds[labels[fresh]]
        held += flagged.mean() <= alpha
        expected.append(share_of_splits_within(
            split_cells(p_values, thresholds, labels[fresh]), alpha))
    wanted = np.mean(expected)
    assert abs(held / splits - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / splits)
    # A bound with 95 % confidence is not met in 95 % of finite splits.
    assert wanted < (0.93 if least > 600 else 0.95)


def test_the_study_expects_what_the_formula_gives():
    path = Path(__file__).parents[2] / 'docs' / 'measured' / 'study.json'
    for name, ways in json.loads(path.read_text())['budget'].items():
        figures = ways['one threshold, images counted as independent']
        n, m, alpha = (figures[key] for key in ('calibrated_on', 'tested_on', 'budget'))
        k = round(p_value_threshold(n, alpha, 0.95) * (n + 1)) - 1
        wanted = share_of_splits_within([SplitCell(n, k, m)], alpha)
        assert figures['expected_to_hold'] == pytest.approx(wanted, abs=1e-6), name
        if name == 'digits':
            # Within the 1 % quantiles of the splits; those of tracks are not independent images.
            low, high = binom.ppf([0.005, 0.995], figures['splits'], wanted) / figures['splits']
            assert low <= figures['bound_held'] <= high
        else:
            tracks = ways['one threshold, tracks counted by their effective sample size']
            assert tracks['expected_to_hold'] is None


def test_ties_can_only_make_the_bound_hold_more_often():
    rng = np.random.default_rng(5)
    pool = rng.integers(0, 12, 500)  # Hamming distances
    held, splits, alpha = 0, 1000, 0.05
    for _ in range(splits):
        order = rng.permutation(500)
        p_values = ConformalPValues(pool[order[:300]])
        threshold = p_value_threshold(300, alpha, 0.95)
        held += (p_values.p_values(pool[order[300:]]) <= threshold).mean() <= alpha
    k = round(p_value_threshold(300, alpha, 0.95) * 301) - 1
    assert held / splits >= share_of_splits_within([SplitCell(300, k, 200)], alpha) - 0.01


def test_cells_are_those_of_the_thresholds():
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1, 2], [400, 300, 200])
    p_values = ClassConditionalPValues(rng.normal(size=900), labels, np.array([0, 1, 0]))
    thresholds = p_values.thresholds(0.05, 0.95)
    cells = split_cells(p_values, thresholds, np.array([0, 0, 1, 2, 2, 2]))
    assert [(cell.calibrated, cell.tested) for cell in cells] == [(600, 5), (300, 1)]
    for cell, label in zip(cells, (0, 1), strict=True):
        assert thresholds[label] == (cell.above + 1) / (cell.calibrated + 1)
