"""Distance of several layers to the predicted class."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_equals, assert_options_enter, double
from sklearn.covariance import EmpiricalCovariance, shrunk_covariance
from training_data import CLASSES, LAYERS, empty, fitted, make_data, make_head, pick

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


def formula(training, labels, test, head, shrinkage=0.1, layers=LAYERS):
    """Return the score, one layer after the other, by scikit-learn's covariance."""
    total = np.zeros(len(test))
    pairs = [(training.means[layer], test.means[layer]) for layer in layers]
    for seen, asked in [*pairs, (training.features, test.features)]:
        mean, scale = double(seen).mean(axis=0), double(seen).std(axis=0)
        scale[scale == 0] = scale.max()
        seen, asked = (double(seen) - mean) / scale, (double(asked) - mean) / scale
        means = np.stack([
            seen[labels == c].mean(axis=0) if (labels == c).any() else np.zeros(len(mean))
            for c in range(CLASSES)
        ])
        estimate = EmpiricalCovariance(assume_centered=True).fit(seen - means[labels])
        within = estimate.covariance_
        estimate._set_covariance(shrunk_covariance(within, shrinkage))
        distance = estimate.mahalanobis(asked - means[test.predicted])
        kept = np.linalg.eigvals(estimate.get_precision() @ within).real
        total += (distance - kept.sum()) / np.sqrt(2 * (kept**2).sum())
    return total


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('layer_mahalanobis', formula, rectified=rectified, atol=1e-4)


@pytest.mark.parametrize('options', [{'shrinkage': 0.4}, {'layers': ['body']}, {'layers': []}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('layer_mahalanobis', formula, options, atol=1e-4)


def test_a_class_without_images_has_the_mean_of_all():
    training, labels, head = make_data(18, 200)
    training, labels = pick(training, labels, labels != 2)
    test = make_data(19, 60)[0]
    assert (test.predicted == 2).any()
    found = fitted('layer_mahalanobis', training, labels, head).score(test)
    np.testing.assert_allclose(
        found, formula(training, labels, test, head), rtol=1e-4, atol=1e-4)


def test_a_channel_that_was_constant_in_training_counts_when_it_changes():
    training, labels, head = make_data(4, 300)
    training.means['body'][:, 2] = 3.0
    score = fitted('layer_mahalanobis', training, labels, head)
    test = make_data(5, 40)[0]
    test.means['body'][:, 2] = 3.0
    usual = score.score(test)
    np.testing.assert_allclose(
        usual, formula(training, labels, test, head), rtol=1e-4, atol=1e-4)
    test.means['body'][:, 2] = 9.0
    assert (score.score(test) > usual + 1).all()


def test_factors_and_offsets_of_channels_change_nothing():
    training, labels, head = make_data(6, 300)
    test = make_data(7, 50)[0]
    score = fitted('layer_mahalanobis', training, labels, head).score(test)

    def rescaled(one):
        means = {
            'stem': one.means['stem'] * np.array([4, 0.25, 1], np.float32),
            'body': one.means['body'] * 8 + 2,
        }
        return Activations(one.logits, one.features / 4, means)

    other = fitted('layer_mahalanobis', rescaled(training), labels, head)
    np.testing.assert_allclose(other.score(rescaled(test)), score, rtol=1e-4, atol=1e-4)


def test_the_kind_of_evidence_is_that_of_the_layer_that_deviates_most():
    training, labels, head = make_data(8, 300)
    score = fitted('layer_mahalanobis', training, labels, head)
    early, late = make_data(9, 30)[0], make_data(9, 30)[0]
    early.means['stem'][:] += 50
    late.features[:] += 50
    assert {*score.evidence_kinds(early)} == {EvidenceKind.EARLY_LAYERS}
    assert {*score.evidence_kinds(late)} == {EvidenceKind.FEATURES}
    assert score.evidence_kinds(early[:1]).shape == (1,)


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^layer_mahalanobis: '):
        empty('layer_mahalanobis', make_head(), shrinkage=0)
