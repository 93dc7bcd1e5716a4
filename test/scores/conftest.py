"""Fixtures of the tests of scores."""

from __future__ import annotations

import pytest


@pytest.fixture
def detectors():
    """Return the detectors of pytorch-ood, an optional dependency."""
    return pytest.importorskip('pytorch_ood.detector')
