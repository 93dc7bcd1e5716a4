"""Generalised entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from formulas import assert_equals, assert_options_enter, double
from scipy.special import log_softmax
from training_data import CLASSES, WIDTH, empty, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations


def formula(training, labels, test, head, gamma=0.1, top=100):
    result = []
    for row in np.exp(log_softmax(double(test.logits), axis=1)):
        largest = sorted(row, reverse=True)[:top]
        result.append(sum((p * (row.sum() - p)) ** gamma for p in largest))
    return np.array(result)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('gen', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'gamma': 0.5, 'top': 2}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('gen', formula, options)


def test_resolves_probabilities_that_round_to_one():
    logits = np.array([[20, 0, 0], [40, 0, 0], [45, 0, 0], [90, 0, 0]], np.float32)
    test = Activations(logits, np.zeros((4, WIDTH), np.float32))
    small = np.exp(-double(logits[:, 0]))
    # p (1 - p) of the first class and of the other two.
    first = (2 * small / (1 + 2 * small) ** 2) ** 0.1
    other = (small * (1 + small) / (1 + 2 * small) ** 2) ** 0.1
    np.testing.assert_allclose(
        empty('gen', make_head()).score(test), first + 2 * other, rtol=1e-9
    )


@pytest.mark.parametrize(('gamma', 'top'), [(0.1, 3), (0.5, 2)])
def test_equals_pytorch_ood(detectors, gamma, top):
    rng = np.random.default_rng(30)
    # Small logits: it cuts probabilities off at 1e-7.
    logits = rng.normal(size=(50, CLASSES)).astype(np.float32)
    test = Activations(logits, np.zeros((50, WIDTH), np.float32))
    expected = top * detectors.GEN.score(torch.from_numpy(logits), gamma=gamma, M=top)  # its mean
    score = empty('gen', make_head(), gamma=gamma, top=top)
    np.testing.assert_allclose(score.score(test), expected.numpy(), rtol=1e-4)


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^gen: '):
        empty('gen', make_head(), gamma=0)
