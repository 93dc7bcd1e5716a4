"""Maximum softmax probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formulas import assert_equals, double
from pytorch_ood_case import make_case, ours
from scipy.special import log_softmax
from training_data import WIDTH, empty, fitted, make_data, make_head

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.registry import make_score


def formula(training, labels, test, head):
    result = []
    for row in double(test.logits):
        rest = np.delete(row, row.argmax()) - row.max()
        result.append(math.log1p(math.fsum(map(math.exp, rest))))
    return np.array(result)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('msp', formula, rectified=rectified)


def test_equals_the_log_softmax():
    test, _, head = make_data(2, 50, classes=4, width=70)
    msp = fitted('msp', test, test.predicted, head).score(test)
    expected = -log_softmax(test.logits.astype(np.float64), axis=1).max(axis=1)
    np.testing.assert_allclose(msp, expected, rtol=1e-9, atol=1e-12)


def test_resolves_probabilities_that_round_to_one():
    logits = np.array([[20, 0, 0], [40, 0, 0], [45, 0, 0], [90, 0, 0]], np.float32)
    test = Activations(logits, np.zeros((4, WIDTH), np.float32))
    score = empty('msp', make_head()).score(test)
    np.testing.assert_allclose(score, formula(None, None, test, None), rtol=1e-9)


def test_large_logits_keep_their_order():
    sure = Activations(np.array([[90.0, 0.0], [80.0, 0.0]], np.float32), np.zeros((2, 1), 'f'))
    surer, less_sure = make_score('msp', {}, classes=2, width=1, head=None).score(sure)
    assert 0 <= surer <= less_sure


def test_equals_pytorch_ood(detectors):
    c = make_case()
    # Probabilities there, logarithms here.
    expected = detectors.MaxSoftmax.score(c.logits).numpy()
    np.testing.assert_allclose(-np.exp(-ours('msp', c)), expected, rtol=1e-5)
