"""Fixtures of the tests of the alert."""

from __future__ import annotations

import pytest
from alert_stream import Stream


@pytest.fixture
def trusted() -> Stream:
    """Return a stream for which the alert is False."""
    stream = Stream()
    stream.play([False] * 5)
    assert stream.look().value is False
    return stream
