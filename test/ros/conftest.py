"""Fixtures of the tests with ROS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rclpy.context import Context
    from ros_harness import Graph


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """Return processes in an exclusive ROS domain, which are stopped after the test."""
    from ros_harness import Graph

    graph = Graph(tmp_path)
    yield graph
    graph.stop()


@pytest.fixture(scope='session')
def moody_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose network fails on demand."""
    import moody

    return moody.make_bundle(tmp_path_factory.mktemp('bundles') / 'moody')


@pytest.fixture(scope='module')
def context() -> Iterator[Context]:
    """Return a context of this process in an exclusive ROS domain."""
    import rclpy

    from nav_monitor_ros.ros.process.domain import take_domain

    with take_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain.number)
        yield context
        rclpy.shutdown(context=context)
