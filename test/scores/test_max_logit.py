"""Largest logit."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_equals
from pytorch_ood_case import make_case, ours


def formula(training, labels, test, head):
    return np.array([-max(map(float, row)) for row in test.logits])


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('max_logit', formula, rectified=rectified)


def test_equals_pytorch_ood(detectors):
    c = make_case()
    np.testing.assert_allclose(ours('max_logit', c), detectors.MaxLogit.score(c.logits).numpy())
