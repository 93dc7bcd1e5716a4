"""Likelihood of the on/off pattern."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formulas import assert_equals, correct_features
from sklearn.naive_bayes import BernoulliNB
from training_data import WIDTH, as_class, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError


def formula(training, labels, test, head, thresholds=0.0):
    result = []
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        rows = correct_features(training, labels, predicted) > thresholds
        rate = (rows.sum(axis=0) + 1) / (len(rows) + 2)
        on = feature > thresholds
        result.append(-np.log(rate[on]).sum() - np.log(1 - rate[~on]).sum())
    return np.array(result)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('pattern_soft', formula, rectified=rectified)


@pytest.mark.parametrize('rule', ['zero', 'quantile'])
def test_equals_naive_bayes(rule):
    training, labels, head = make_data(8, 200, rectified=True)
    test, _, _ = make_data(9, 60, rectified=True)
    thresholds = np.zeros(WIDTH)
    if rule == 'quantile':
        thresholds = np.quantile(training.features, 0.7, axis=0).astype(np.float32)
    correct = training.predicted == labels
    bayes = BernoulliNB(alpha=1.0).fit(training.features[correct] > thresholds, labels[correct])
    joint = bayes.predict_joint_log_proba(test.features > thresholds) - bayes.class_log_prior_
    score = fitted('pattern_soft', training, labels, head, threshold=rule, quantile=0.7)
    np.testing.assert_allclose(
        score.score(test), -joint[np.arange(60), test.predicted], rtol=1e-12
    )


def test_a_class_without_images_has_even_odds():
    training, labels, head = make_data(8, 200)
    labels[training.predicted == 2] = 0
    score = fitted('pattern_soft', training, labels, head)
    np.testing.assert_allclose(
        score.score(as_class(training[:9], 2)), WIDTH * math.log(2), rtol=1e-12
    )


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^pattern_soft: '):
        empty('pattern_soft', make_head(), quantile=1)
