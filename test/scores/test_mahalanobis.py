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
