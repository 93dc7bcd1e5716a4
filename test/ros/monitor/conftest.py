"""Fixtures of the tests of the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet
    from ros_harness import Graph


@pytest.fixture
def trusted(graph: Graph, moody_bundle: Path) -> Graph:
    """Return the graph of a monitor that trusts its feed."""
    from moody_feed import START, Feed, moody_arguments, python_path

    graph.monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.feed = Feed(graph)
    graph.wait_alert(False, START)
    return graph


@pytest.fixture(scope='module')
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield several cameras and the node that monitors them."""
    import moody
    from fleet import Fleet
    from ros_harness import Graph

    folder = tmp_path_factory.mktemp('fleet')
    graph = Graph(folder)
    try:
        yield Fleet(graph, moody.make_bundle(folder / 'moody'), folder)
    finally:
        graph.stop()


@pytest.fixture
def trusted_fleet(fleet: Fleet) -> Fleet:
    """Let all cameras send normal images, and wait until they are trusted."""
    for feed in fleet.feeds.values():
        feed.play(feed.normal)
    fleet.trusted()
    return fleet
