"""Uncertainty over passes with dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formulas import assert_equals, assert_options_enter, assert_refuses_bare_network, double
from scipy.special import log_softmax
from scipy.stats import entropy
from training_data import CLASSES, PASSES, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations


def formula(training, labels, test, head, measure='entropy'):
    result = []
    for passes in np.exp(log_softmax(double(test.samples), axis=2)):
        total = entropy(passes.mean(axis=0))
        single = np.mean([entropy(p) for p in passes])
        result.append(total if measure == 'entropy' else total - single)
    return np.array(result)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('mc_dropout', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'measure': 'mutual_information'}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('mc_dropout', formula, options)


def test_passes_that_agree_have_no_mutual_information():
    test, labels, head = make_data(17, 20)
    same = Activations(
        test.logits, test.features, samples=np.repeat(test.logits[:, None], PASSES, axis=1)
    )
    score = fitted('mc_dropout', same, labels, head, measure='mutual_information')
    np.testing.assert_allclose(score.score(same), 0, atol=1e-6)
    total = fitted('mc_dropout', same, labels, head).score(same)
    np.testing.assert_allclose(
        total, entropy(np.exp(log_softmax(double(test.logits), axis=1)), axis=1), atol=1e-6
    )
    split = np.zeros((1, 2, CLASSES), np.float32)
    split[0, [0, 1], [0, 1]] = 50
    disagree = Activations(test.logits[:1], test.features[:1], samples=split)
    assert score.score(disagree) == pytest.approx(math.log(2))


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('mc_dropout')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^mc_dropout: '):
        empty('mc_dropout', make_head(), count=1)
