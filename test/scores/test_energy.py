"""Free energy."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_equals, free_energy
from pytorch_ood_case import make_case, ours
from scipy.special import logsumexp
from training_data import empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError


def formula(training, labels, test, head):
    return free_energy(test.logits)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('energy', formula, rectified=rectified)


@pytest.mark.parametrize('temperature', [0.5, 3.0])
def test_has_a_temperature(temperature):
    test, labels, head = make_data(4, 50)
    score = fitted('energy', test, labels, head, temperature=temperature)
    np.testing.assert_allclose(
        score.score(test), free_energy(test.logits, temperature), rtol=1e-5
    )


def test_equals_minus_logsumexp():
    test, _, head = make_data(2, 50, classes=4, width=70)
    energy = fitted('energy', test, test.predicted, head).score(test)
    expected = -logsumexp(test.logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(energy, expected, rtol=1e-12)


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_equals_pytorch_ood(detectors, temperature):
    c = make_case()
    expected = detectors.EnergyBased.score(c.logits, temperature).numpy()
    np.testing.assert_allclose(ours('energy', c, temperature=temperature), expected, rtol=1e-5)


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^energy: '):
        empty('energy', make_head(), temperature=0)
