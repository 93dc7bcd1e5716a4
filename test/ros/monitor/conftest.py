"""Fixtures of the tests of the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from ros_harness import Graph


@pytest.fixture
def trusted(graph: Graph, moody_bundle: Path) -> Graph:
    """Return the graph of a monitor that trusts its feed."""
    from moody_feed import START, Feed, moody_arguments, python_path

    graph.monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.feed = Feed(graph)
    graph.wait_alert(False, START)
    return graph
