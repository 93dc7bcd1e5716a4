"""Mahalanobis distance to the classes."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import (
    assert_class_without_images_is_left_out,
    assert_equals,
    assert_options_enter,
    class_distances,
)
from pytorch_ood_case import make_case, ours
from training_data import empty, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import NotApplicableError
from nav_monitor_ros.scores.moments import MOST_SQUARE
from nav_monitor_ros.scores.registry import make_score


def formula(training, labels, test, head, shrinkage=0.001):
    return class_distances(training, labels, test, shrinkage).min(axis=0)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('mahalanobis', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'shrinkage': 0.3}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('mahalanobis', formula, options)


def test_a_class_without_images_is_left_out():
    assert_class_without_images_is_left_out('mahalanobis', formula)


def test_equals_pytorch_ood(detectors):
    c = make_case()
    # It divides neither the scatter by the number of images nor the distance by 2.
    plain = detectors.Mahalanobis(None).fit_features(*c.fit).predict_features(c.features)
    found = ours('mahalanobis', c, shrinkage=1e-9) / 300 / 2
    np.testing.assert_allclose(found, plain.numpy(), rtol=1e-3)


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^mahalanobis: '):
        empty('mahalanobis', make_head(), shrinkage=0)


@pytest.mark.parametrize('name', ['mahalanobis', 'relative_mahalanobis', 'vim'])
def test_covariances_of_too_many_features_are_refused_before_they_are_computed(name):
    width = MOST_SQUARE + 1
    head = Head(np.ones((2, width), np.float32), np.zeros(2, np.float32))
    score = make_score(name, {}, classes=2, width=width, head=head)
    sample = Activations(np.zeros((3, 2), np.float32), np.zeros((3, width), np.float32), {}, {})
    with pytest.raises(NotApplicableError, match=f'{name}: the covariance of 8193 features would'):
        score.prepare(sample, np.zeros(3, np.int64))
