"""Probability of the background class."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_equals, assert_refuses_bare_network, double
from scipy.special import log_softmax
from training_data import WIDTH, empty, make_head

from nav_monitor_ros.perception.activations import Activations


def formula(training, labels, test, head):
    return log_softmax(np.column_stack([double(test.logits), test.background]), axis=1)[:, -1]


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('decoy', formula, rectified=rectified)


def test_large_logits_do_not_overflow():
    logits = np.array([[500, 0, 0], [-500, 0, 0], [0, 0, 0]], np.float32)
    background = np.array([0, 500, -500], np.float32)
    test = Activations(logits, np.zeros((3, WIDTH), np.float32), background=background)
    np.testing.assert_allclose(
        empty('decoy', make_head()).score(test), formula(None, None, test, None), atol=1e-12
    )


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('decoy')
