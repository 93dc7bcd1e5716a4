"""Fixtures of the tests of safety_stop."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Alert in a separate process, which tests kill or pause: False at 10 Hz.
PUBLISHER = """
import time, rclpy
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
rclpy.init()
node = rclpy.create_node('alert')
publisher = node.create_publisher(Bool, '/ood_alert', QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(seconds=0.3), liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=0.5)))
while True:
    publisher.publish(Bool(data=False))
    time.sleep(0.1)
"""


@pytest.fixture
def bench(graph):
    from safety_stop_bench import Bench

    return Bench(graph)


@pytest.fixture
def alert_process(graph):
    """Return a function that starts an alert in a separate process."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, '-c', PUBLISHER],
            env={**os.environ, **graph.domain.environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def stranger(graph):
    """Return a node of another participant, in which a topic may have another type."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=graph.domain.number)
    node = rclpy.create_node('stranger', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)
