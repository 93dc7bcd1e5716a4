"""Parts of formulas shared by several scores, in double precision, one image at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, shrunk_covariance
from training_data import CLASSES, WIDTH, as_class, fitted, make_data, pick

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import NotApplicableError
from nav_monitor_ros.scores.registry import make_score


def double(array):
    return np.asarray(array, np.float64)


def correct_features(training, labels, label):
    """Return the features of a class's correctly classified images."""
    return double(training.features[(training.predicted == labels) & (labels == label)])


def entering(head, features):
    return np.where(double(features) > 0, double(features), 0) if head.rectified else double(
        features
    )


def free_energy(logits, temperature=1.0):
    return np.array([
        -temperature * math.log(math.fsum(math.exp(float(logit) / temperature) for logit in row))
        for row in logits
    ])


def head_logits(head, entering):
    return double(entering) @ double(head.weight).T + double(head.bias)


def gaussians(training, labels, classes=CLASSES, floor=0.01):
    """Return mean and variance of each class; if undefined, those of all correct images."""
    correct = double(training.features[training.predicted == labels])
    mean = np.tile(correct.mean(axis=0), (classes, 1))
    variance = np.tile(correct.var(axis=0), (classes, 1))
    for label in range(classes):
        rows = correct_features(training, labels, label)
        if len(rows):
            mean[label] = rows.mean(axis=0)
        if len(rows) > 1:
            variance[label] = rows.var(axis=0)
    return mean, np.maximum(variance, floor * correct.var(axis=0).mean())


def class_distances(training, labels, test, shrinkage):
    """Return squared distances to each class, computed by scikit-learn, (C, N)."""
    features, means = double(training.features), {}
    for label in np.unique(labels):
        means[label] = features[labels == label].mean(axis=0)
    centred = features - np.stack([means[label] for label in labels])
    estimate = EmpiricalCovariance(assume_centered=True).fit(centred)
    estimate._set_covariance(shrunk_covariance(estimate.covariance_, shrinkage))
    return np.stack(
        [estimate.mahalanobis(double(test.features) - mean) for mean in means.values()]
    )


def shaped_energy(head, test, percentile, prune):
    shaped = []
    for feature in entering(head, test.features):
        kept = len(feature) - round(len(feature) * percentile)
        least = sorted(feature, reverse=True)[kept - 1]
        pruned = np.where(feature >= least, feature, 0)
        ratio = feature.sum() / (pruned.sum() if prune else sum(sorted(feature)[-kept:]))
        shaped.append((pruned if prune else feature) * np.exp(ratio))
    return free_energy(head_logits(head, shaped))


def assert_equals(name, formula, *, rectified, atol=1e-5, **options):
    """Check a score against its formula, with its default or the given options."""
    training, labels, head = make_data(0, 300, rectified=rectified)
    test, _, _ = make_data(1, 80, rectified=rectified)
    test.features[40:] *= 1.7  # beyond the training features
    score = fitted(name, training, labels, head, **options)
    expected = formula(training, labels, test, head)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4, atol=atol)


def assert_options_enter(name, formula, options, *, atol=1e-5):
    """Check that non-default options change a score according to its formula."""
    training, labels, head = make_data(2, 300)
    test, _, _ = make_data(3, 80)
    expected = formula(training, labels, test, head, **options)
    usual = formula(training, labels, test, head)
    assert not np.allclose(expected, usual, rtol=1e-3, atol=1e-3)
    score = fitted(name, training, labels, head, **options)
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4, atol=atol)


def assert_relu_may_precede_the_head(name, **options):
    """Check that a ReLU in the head is equivalent to a ReLU in the layer."""
    before, labels, rectified = make_data(5, 200, rectified=True)
    plain = Head(rectified.weight, rectified.bias)
    behind = Activations(before.logits, np.maximum(before.features, 0))
    one = fitted(name, before, labels, rectified, **options).score(before)
    two = fitted(name, behind, labels, plain, **options).score(behind)
    np.testing.assert_allclose(one, two, rtol=1e-6)


def assert_refuses_bare_network(name):
    """Check the refusal of a network with only logits and features and an unknown head."""
    training, labels, _ = make_data(0, 40)
    bare = Activations(training.logits, training.features)
    score = make_score(name, {}, classes=CLASSES, width=WIDTH, head=None)
    with pytest.raises(NotApplicableError, match=f'^{name}: .*leave this score out'):
        score.prepare(bare, labels)


def assert_refuses_foreign_tensors(name):
    """Check that a score refuses the arrays of another network and missing arrays."""
    training, labels, head = make_data(0, 100, classes=4, width=70)
    tensors = fitted(name, training, labels, head).tensors()
    other = make_score(name, {}, classes=4, width=70 + 64, head=None)
    with pytest.raises(NavMonitorError, match='fit it again'):
        other.restore(tensors)
    with pytest.raises(NavMonitorError, match='lacks'):
        make_score(name, {}, classes=4, width=70, head=None).restore({})


def assert_class_without_images_is_left_out(name, formula):
    """Check that a score ignores a class without images."""
    training, labels, head = make_data(18, 200)
    training, labels = pick(training, labels, labels != 2)
    test = make_data(19, 30)[0]
    # The mean of all images is not necessarily near any class.
    test.features[0] = training.features.mean(axis=0)
    expected = formula(training, labels, test, head)
    found = fitted(name, training, labels, head).score(test)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def assert_class_without_variance_has_that_of_all(name, formula, count):
    """Check a class with ``count`` correctly classified images, too few for a variance."""
    training, labels, head = make_data(18, 200)
    rows = np.flatnonzero((training.predicted == 2) & (labels == 2))
    labels[rows[count:]] = 0
    test = as_class(make_data(19, 30)[0], 2)
    expected = formula(training, labels, test, head)
    found = fitted(name, training, labels, head).score(test)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
