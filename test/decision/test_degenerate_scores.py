"""Scores that carry no information of their own are found by their values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nav_monitor_ros.decision.degenerate_scores import degenerate_scores, duplicates

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=400)


def fitted(*names, **changes):
    """Return stand-ins for fitted scores."""
    usual = {'windowed': False, 'extends': '', 'degeneracy': lambda: ''}
    return {name: SimpleNamespace(**{**usual, **changes.get(name, {})}) for name in names}


@pytest.mark.parametrize(('values', 'reason'), [
    (np.full(400, 3.7), 'the same for all calibration images'),
    (1e4 + 1e-4 * NORMAL, 'the same for all calibration images'),  # but for rounding
    (np.zeros(400), 'the same for all calibration images'),
    (np.minimum(NORMAL, -1.0), '% of the calibration images have its largest value'),
])
def test_constant_and_saturated_scores_are_found(values, reason):
    assert reason in degenerate_scores(fitted('a'), {'a': values})['a']


@pytest.mark.parametrize('values', [
    NORMAL, np.maximum(NORMAL, 2.0),  # 0 where an image is as in training, as distances are
    np.minimum(NORMAL, 1.0), RNG.integers(0, 4, 400).astype(float), 1e-20 * NORMAL,
])
def test_informative_scores_are_not(values):
    assert degenerate_scores(fitted('a'), {'a': values}) == {}


def test_a_score_knows_its_own_reason_and_a_windowed_one_is_not_examined():
    scores = fitted('a', 'b', a={'degeneracy': lambda: 'it is clamped'}, b={'windowed': True})
    values = {'a': NORMAL, 'b': np.zeros(400)}
    assert degenerate_scores(scores, values) == {'a': 'it is clamped'}


def test_the_second_of_two_equal_members_is_a_duplicate():
    values = {'a': NORMAL, 'b': RNG.normal(size=400), 'c': np.exp(NORMAL)}
    found = duplicates(['a', 'b', 'c'], fitted('a', 'b', 'c'), values)
    assert list(found) == ['c']
    assert found['c'] == 'it ranks images as a does (rank correlation 1.0000)'


def test_of_a_score_and_one_that_extends_it_the_extension_is_the_duplicate():
    values = {'vim': NORMAL + 1e-6 * RNG.normal(size=400), 'energy': NORMAL}
    scores = fitted('vim', 'energy', vim={'extends': 'energy'})
    assert list(duplicates(['vim', 'energy'], scores, values)) == ['vim']
    assert list(duplicates(['energy', 'vim'], scores, values)) == ['vim']


def test_members_that_only_resemble_each_other_stay():
    values = {'a': NORMAL, 'b': NORMAL + 0.2 * RNG.normal(size=400)}
    assert np.corrcoef(*values.values())[0, 1] > 0.97
    assert duplicates(['a', 'b'], fitted('a', 'b'), values) == {}
