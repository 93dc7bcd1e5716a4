"""Channel means of early layers."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_equals, assert_options_enter, assert_refuses_bare_network, double
from sklearn.covariance import EmpiricalCovariance, shrunk_covariance
from training_data import LAYERS, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError


def formula(training, labels, test, head, shrinkage=0.01):
    total = np.zeros(len(test))
    for layer in LAYERS:
        estimate = EmpiricalCovariance().fit(double(training.means[layer]))
        estimate._set_covariance(shrunk_covariance(estimate.covariance_, shrinkage))
        channels = training.means[layer].shape[1]
        total += estimate.mahalanobis(double(test.means[layer])) / channels
    return total


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('channel_means', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'shrinkage': 0.3}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('channel_means', formula, options)


def test_equals_the_mahalanobis_distance_of_each_layer():
    training, labels, head = make_data(0, 500, classes=4, width=70)
    test, _, _ = make_data(1, 20, classes=4, width=70)
    score = fitted('channel_means', training, labels, head, shrinkage=0.05)
    expected = np.zeros(20)
    for layer in ('stem', 'body'):
        mean = training.means[layer].mean(axis=0, dtype=np.float64)
        covariance = np.cov(training.means[layer].T.astype(np.float64), bias=True)
        channels = len(mean)
        shrunk = 0.95 * covariance + 0.05 * np.trace(covariance) / channels * np.eye(channels)
        deviation = test.means[layer] - mean
        expected += np.einsum(
            'ni,ij,nj->n', deviation, np.linalg.inv(shrunk), deviation
        ) / channels
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4)


def test_no_layers_are_refused():
    training, labels, head = make_data(0, 50)
    with pytest.raises(NavMonitorError, match='leave this score out'):
        fitted('channel_means', training, labels, head, layers=[])


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('channel_means')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^channel_means: '):
        empty('channel_means', make_head(), shrinkage=0)
