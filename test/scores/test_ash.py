"""Activation shaping (ASH-S)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formulas import (
    assert_equals,
    assert_options_enter,
    assert_refuses_bare_network,
    assert_relu_may_precede_the_head,
    double,
    free_energy,
    head_logits,
    shaped_energy,
)
from pytorch_ood_case import assert_equals_feature_map_detector
from training_data import WIDTH, activate, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.scores.base import NotApplicableError


def formula(training, labels, test, head, percentile=0.65):
    return shaped_energy(head, test, percentile, prune=True)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('ash', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'percentile': 0.3}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('ash', formula, options)


def test_a_relu_before_the_head_equals_features_behind_it():
    assert_relu_may_precede_the_head('ash')


def test_equally_large_features_are_all_kept_and_all_summed():
    head = make_head()
    features = np.zeros((2, WIDTH), np.float32)
    features[0] = 0.1
    features[1, :8] = 0.2
    test = activate(head, features, np.random.default_rng(0))
    score = fitted('ash', test, test.predicted, head)
    # Nothing but zeros is pruned, so the sum stays as it was.
    expected = free_energy(head_logits(head, double(features) * math.e))
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-5)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_pytorch_ood(detectors, rectified):
    def make_detector(head):
        return detectors.ASH(None, head, variant='ash-s', percentile=0.65)

    assert_equals_feature_map_detector('ash', make_detector, rectified=rectified)


def test_features_below_zero_are_refused():
    training, labels, head = make_data(0, 40, rectified=True)
    with pytest.raises(NotApplicableError, match='^ash: .*non-negative'):
        fitted('ash', training, labels, Head(head.weight, head.bias))


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('ash')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^ash: '):
        empty('ash', make_head(), percentile=1)
