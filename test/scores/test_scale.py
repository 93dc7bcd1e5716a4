"""SCALE: energy of scaled features."""

from __future__ import annotations

import pytest
from formulas import (
    assert_equals,
    assert_options_enter,
    assert_refuses_bare_network,
    assert_relu_may_precede_the_head,
    shaped_energy,
)
from pytorch_ood_case import assert_equals_feature_map_detector
from training_data import empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.scores.base import NotApplicableError


def formula(training, labels, test, head, percentile=0.85):
    return shaped_energy(head, test, percentile, prune=False)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('scale', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'percentile': 0.5}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('scale', formula, options)


def test_a_relu_before_the_head_equals_features_behind_it():
    assert_relu_may_precede_the_head('scale')


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_pytorch_ood(detectors, rectified):
    assert_equals_feature_map_detector(
        'scale', lambda head: detectors.SCALE(None, head, percentile=0.85), rectified=rectified
    )


def test_features_below_zero_are_refused():
    training, labels, head = make_data(0, 40, rectified=True)
    with pytest.raises(NotApplicableError, match='^scale: .*non-negative'):
        fitted('scale', training, labels, Head(head.weight, head.bias))


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('scale')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^scale: '):
        empty('scale', make_head(), percentile=-0.1)
