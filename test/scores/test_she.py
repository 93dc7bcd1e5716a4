"""Simplified Hopfield energy."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_equals, correct_features, double
from pytorch_ood_case import make_case, ours
from training_data import CLASSES, as_class, fitted, make_data


def formula(training, labels, test, head):
    means = [correct_features(training, labels, label).mean(axis=0) for label in range(CLASSES)]
    return np.array([
        -(double(feature) @ means[label])
        for feature, label in zip(test.features, test.predicted, strict=True)
    ]) / unit(means)


def unit(means):
    return np.square(means).sum(axis=1).mean()


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('she', formula, rectified=rectified)


def test_a_class_without_images_has_the_mean_of_all():
    training, labels, head = make_data(18, 200)
    labels[training.predicted == 2] = 0
    mean = double(training.features[training.predicted == labels]).mean(axis=0)
    test = as_class(make_data(19, 30)[0], 2)
    score = fitted('she', training, labels, head)
    np.testing.assert_allclose(
        score.score(test), -double(test.features) @ mean / unit(score.mean), rtol=1e-5
    )


def test_equals_pytorch_ood(detectors):
    c = make_case()
    she = detectors.SHE(None, c.linear).fit_features(*c.fit).predict_features(c.features)
    means = fitted('she', c.training, c.labels, c.head).mean
    np.testing.assert_allclose(ours('she', c), she.numpy() / unit(means), rtol=1e-4)
