"""Distance to the decision boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import (
    assert_equals,
    assert_refuses_bare_network,
    assert_relu_may_precede_the_head,
    double,
    entering,
)
from pytorch_ood_case import make_case, ours


def formula(training, labels, test, head):
    mean = entering(head, training.features).mean(axis=0)
    weight, result = double(head.weight), []
    for feature, logits, best in zip(
        entering(head, test.features), double(test.logits), test.predicted, strict=True
    ):
        distances = [
            (logits[best] - logits[c]) / np.linalg.norm(weight[best] - weight[c])
            for c in range(len(logits))
            if c != best
        ]
        result.append(-np.mean(distances) / np.linalg.norm(feature - mean))
    return np.array(result)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('fdbd', formula, rectified=rectified)


def test_a_relu_before_the_head_equals_features_behind_it():
    assert_relu_may_precede_the_head('fdbd')


def test_equals_pytorch_ood(detectors):
    c = make_case()
    fdbd = detectors.fDBD(None, c.linear).fit_features(c.fit[0]).predict_features(c.features)
    np.testing.assert_allclose(ours('fdbd', c), fdbd.numpy(), rtol=1e-3)


def test_a_network_that_lacks_what_it_needs_is_refused():
    assert_refuses_bare_network('fdbd')
