"""A Gaussian per class and neuron."""

from __future__ import annotations

import numpy as np
import pytest
from degenerate_training import any_frames, degenerate
from formulas import (
    assert_class_without_variance_has_that_of_all,
    assert_equals,
    assert_options_enter,
    assert_refuses_foreign_tensors,
    double,
    gaussians,
)
from scipy.stats import norm
from training_data import empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations


def formula(training, labels, test, head, floor=0.01):
    mean, variance = gaussians(training, labels, floor=floor)
    return np.array([
        -norm.logpdf(double(feature), mean[label], np.sqrt(variance[label])).sum()
        for feature, label in zip(test.features, test.predicted, strict=True)
    ]) - in_unit_of(variance)


def in_unit_of(variance):
    """Return what the likelihood gains in the unit of the mean variance (C, D)."""
    return 0.5 * variance.shape[1] * np.log(variance.mean())


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('gaussian', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'floor': 0.5}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('gaussian', formula, options)


def test_equals_the_likelihood_under_the_predicted_class():
    training, labels, head = make_data(0, 500, classes=4, width=70)
    test, _, _ = make_data(1, 20, classes=4, width=70)
    score = fitted('gaussian', training, labels, head, floor=1e-9)
    correct = training.predicted == labels
    expected = []
    unit = in_unit_of(gaussians(training, labels, classes=4, floor=1e-9)[1])
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        own = training.features[correct & (labels == predicted)].astype(np.float64)
        mean, std = own.mean(axis=0), own.std(axis=0)
        expected.append(-norm.logpdf(feature, mean, std).sum() - unit)
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4)
    np.testing.assert_allclose(
        score.z_scores(test.features[0], int(test.predicted[0])),
        (test.features[0] - score.mean[test.predicted[0]])
        / np.sqrt(score.variance[test.predicted[0]]),
    )


@pytest.mark.parametrize('count', [0, 1])
def test_a_class_without_a_variance_has_that_of_all_images(count):
    assert_class_without_variance_has_that_of_all('gaussian', formula, count)


def test_large_means_do_not_cost_the_variance_its_digits():
    training, labels, head = make_data(0, 500, classes=4, width=70)
    shifted = Activations(training.logits, training.features + np.float32(4096), training.means)
    plain = fitted('gaussian', training, labels, head)
    moved = fitted('gaussian', shifted, labels, head)
    np.testing.assert_allclose(moved.variance, plain.variance, rtol=0.01)


def test_a_neuron_constant_in_training_weighs_much_but_not_infinitely():
    training, labels, head = make_data(0, 200, classes=4, width=70)
    training.features[:, 3] = 0.0
    score = fitted('gaussian', training, labels, head, floor=0.01)
    deviating = Activations(training.logits[:1], training.features[:1].copy())
    before = score.score_frame(deviating)
    deviating.features[0, 3] = 1.0
    assert 1.0 < score.score_frame(deviating) - before < 1000.0


def test_a_class_without_correct_images_uses_the_pooled_gaussian_and_says_so():
    training, labels, head = make_data(0, 200, classes=4, width=70)
    labels[training.predicted == 2] = 3
    score = fitted('gaussian', training, labels, head)
    assert score.count[2] == 0
    assert 'class 2 has' in score.notes()[0]
    assert 'class right has' in score.notes(('a', 'b', 'right', 'd'))[0]
    assert np.isfinite(score.score(training)).all()


def test_a_tiny_floor_still_holds_where_nothing_varies():
    training, labels, head = degenerate('constant features')
    score = fitted('gaussian', training, labels, head, floor=1e-9)
    assert np.isfinite(score.score(any_frames(training, head))).all()


def test_tensors_of_another_network_are_refused():
    assert_refuses_foreign_tensors('gaussian')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^gaussian: '):
        empty('gaussian', make_head(), floor=0)
