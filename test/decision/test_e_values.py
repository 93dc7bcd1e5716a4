"""E-values of p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from nav_monitor_ros.decision.e_values import NO_EVIDENCE, EValues
from nav_monitor_ros.errors import NavMonitorError


def e_values_of(n=4000, effective=None, limit=0.01, level=0.001):
    return EValues([n], [effective or n], np.array([limit]), 0.95, level)


@pytest.mark.parametrize('n', [300, 1000, 4400])
def test_the_rate_is_the_exact_binomial_bound(n):
    values = e_values_of(n)
    rank = round(values.levels[0] * (n + 1))
    assert values.levels[0] <= max(0.001, 1 / (n + 1)) + 1e-12
    # At the bound, at most rank - 1 of n calibration images score as high 5 % of the time.
    assert binom.cdf(rank - 1, n, values.rates[0]) == pytest.approx(0.05, rel=1e-6)


def test_p_values_on_the_grid_count_up_to_the_level():
    values = e_values_of(4400)
    grid = np.arange(1, 4402) / 4401
    unusual = values.e_values(grid, np.zeros(4401, int)) > 1
    assert unusual.sum() == 4  # 4 / 4401 <= 0.001 < 5 / 4401
    assert [values.e_value(p, 0) > 1 for p in grid[:6]] == [True] * 4 + [False] * 2


def test_a_class_without_p_values_so_small_takes_its_smallest():
    values = EValues([4400, 60], [4400, 60], np.array([0.01, 0.05]), 0.95, 0.001)
    assert values.levels[1] == pytest.approx(1 / 61)
    assert values.rates[1] == pytest.approx(1 - 0.05 ** (1 / 60))


def test_the_level_never_exceeds_the_threshold():
    assert e_values_of(4400, limit=0.0075, level=0.3).levels[0] <= 0.0075


def test_images_that_are_worth_fewer_weigh_less():
    few, many = e_values_of(1370, effective=274), e_values_of(1370)
    assert few.rates[0] > 3 * many.rates[0]
    assert few.e_value(few.levels[0], 0) < many.e_value(many.levels[0], 0)


@pytest.mark.parametrize('level', [0.0, 1.0, -1.0, float('nan')])
def test_a_level_out_of_range_is_refused(level):
    with pytest.raises(NavMonitorError, match='evidence_level'):
        e_values_of(level=level)


def test_e_values_of_exchangeable_frames_are_at_most_one_on_average():
    """Over calibration sets, the mean e-value exceeds 1 in no more than 5 % and a bit of them."""
    rng = np.random.default_rng(0)
    too_high = 0
    for _ in range(400):
        calibration = np.sort(rng.normal(size=1000))
        values = e_values_of(1000)
        # The share of frames at or below the level, exactly: what scores above the k-th largest.
        rank = round(values.levels[0] * 1001)
        share = 0.5 * math.erfc(calibration[1000 - rank] / math.sqrt(2))
        too_high += NO_EVIDENCE + share * (1 - NO_EVIDENCE) / values.rates[0] > 1
    assert too_high / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
