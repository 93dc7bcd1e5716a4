"""Fixtures of the tests of faults."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest


@pytest.fixture(scope='session', autouse=True)
def _record():
    """Write the rows of the table to the file in NAV_MONITOR_FAULTS, if it is set."""
    yield
    if path := os.environ.get('NAV_MONITOR_FAULTS'):
        from fault_robot import RESULTS

        Path(path).write_text(json.dumps(RESULTS, indent=1) + '\n', encoding='utf-8')


@pytest.fixture(scope='module')
def shared(tmp_path_factory, moody_bundle):
    """Start one robot for faults that do not end its processes."""
    from fault_robot import Robot
    from ros_harness import Graph

    graph = Graph(tmp_path_factory.mktemp('logs'), udp_only=True)
    robot = Robot(graph, moody_bundle)
    yield robot
    graph.stop()


@pytest.fixture
def robot(shared):
    """Return the shared robot; its initial state is restored after each test."""
    from fault_robot import Feed

    yield shared
    shared.monitor.send_signal(signal.SIGCONT)
    for feed in shared.graph.feeds[:]:
        if feed is not shared.feed:
            feed.stop()
    if not shared.graph.feeds:
        shared.feed = Feed(shared.graph)
    shared.feed.now = time.time_ns
    shared.feed.play(shared.feed.normal)
