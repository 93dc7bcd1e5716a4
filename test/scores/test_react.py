"""ReAct: energy after clipping."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import (
    assert_equals,
    assert_options_enter,
    assert_refuses_bare_network,
    assert_relu_may_precede_the_head,
    entering,
    free_energy,
    head_logits,
)
from pytorch_ood_case import assert_equals_feature_map_detector
from training_data import empty, make_head

from nav_monitor_ros.errors import NavMonitorError


def formula(training, labels, test, head, quantile=0.9):
    clip = np.quantile(entering(head, training.features).ravel(), quantile)
    return free_energy(head_logits(head, np.clip(entering(head, test.features), None, clip)))


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('react', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'quantile': 0.6}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('react', formula, options)


@pytest.mark.parametrize('options', [{}, {'quantile': 0.3}])
def test_a_relu_before_the_head_equals_features_behind_it(options):
    assert_relu_may_precede_the_head('react', **options)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_pytorch_ood(detectors, rectified):
    assert_equals_feature_map_detector(
        'react', lambda head: detectors.ReAct(None, head, percentile=0.9), rectified=rectified
    )


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('react')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^react: '):
        empty('react', make_head(), quantile=0)
