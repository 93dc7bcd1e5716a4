"""Virtual-logit matching."""

from __future__ import annotations

import numpy as np
import pytest
from degenerate_training import degenerate
from formulas import (
    assert_equals,
    assert_options_enter,
    assert_refuses_bare_network,
    assert_relu_may_precede_the_head,
    double,
    entering,
    free_energy,
)
from pytorch_ood_case import make_case, ours
from training_data import WIDTH, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError


def origin_of(head):
    return np.linalg.lstsq(double(head.weight), -double(head.bias), rcond=None)[0]


def formula(training, labels, test, head, subspace=WIDTH // 2):
    origin = origin_of(head)
    deviation = entering(head, training.features) - origin
    residual = np.linalg.svd(deviation)[2][subspace:]
    alpha = double(training.logits).max(axis=1).mean() / np.linalg.norm(
        deviation @ residual.T, axis=1
    ).mean()
    outside = np.linalg.norm((entering(head, test.features) - origin) @ residual.T, axis=1)
    return alpha * outside + free_energy(test.logits)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('vim', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'subspace': 2}, {'subspace': 11}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('vim', formula, options)


def test_a_relu_before_the_head_equals_features_behind_it():
    assert_relu_may_precede_the_head('vim')


@pytest.mark.parametrize('subspace', [3, 6])
def test_equals_pytorch_ood(detectors, subspace):
    c = make_case()
    detector = detectors.ViM(None, subspace, c.linear.weight, c.linear.bias).fit_features(*c.fit)
    np.testing.assert_allclose(
        ours('vim', c, subspace=subspace), detector.predict_features(c.features).numpy(),
        rtol=1e-3, atol=1e-3,
    )


@pytest.mark.parametrize(
    ('what', 'subspace'), [('more neurons than images', 15), ('dead neurons', 5)]
)
def test_does_not_take_rounding_for_a_residual(what, subspace):
    training, labels, head = degenerate(what)
    score = fitted('vim', training, labels, head, subspace=subspace)
    # All training images lie in the principal subspace.
    assert np.linalg.matrix_rank(training.features - origin_of(head)) <= subspace
    assert score.alpha[0] == 1
    assert 'no training image has a residual' in score.degeneracy()


def test_directions_in_which_nothing_varies_are_all_in_the_residual():
    training, labels, head = degenerate('dead neurons')
    rank = np.linalg.matrix_rank(training.features - origin_of(head))
    score = fitted('vim', training, labels, head, subspace=training.features.shape[1] - 1)
    assert score.residual.shape[1] == training.features.shape[1] - rank


def test_a_residual_that_varies_is_not_degenerate():
    training, labels, head = make_data(0, 300)
    assert fitted('vim', training, labels, head).degeneracy() == ''


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('vim')


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^vim: '):
        empty('vim', make_head(), subspace=WIDTH)
