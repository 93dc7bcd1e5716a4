"""Alerts and commands that the middleware delivers long after they were published."""

from __future__ import annotations

import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from geometry_msgs.msg import Twist, Vector3  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_harness import LATCHED, rgb_message  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

from nav_monitor_ros.decision.velocity_gate import GateReason  # noqa: E402
from nav_monitor_ros.ros.monitor.alert_publisher import create_alert_publisher  # noqa: E402
from nav_monitor_ros.ros.monitor.image_subscription import ImageSubscription  # noqa: E402
from nav_monitor_ros.ros.monitor.latest_frame_queue import LatestFrameQueue  # noqa: E402
from nav_monitor_ros.ros.safety_stop.node import SafetyStopNode  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
GID = {'data': bytes(range(24))}


def told(age=0.0):
    """Return the message info of a message that was sent some seconds ago and arrives now."""
    now = time.time_ns()
    return {
        'source_timestamp': now - round(age * SECOND), 'received_timestamp': now,
        'publisher_gid': GID,
    }


def received_late(context, node, topic, patience=2.0):
    """Return the alerts that a subscriber gets that joins now."""
    listener = rclpy.create_node('late_joiner', context=context)
    heard = []
    listener.create_subscription(Bool, topic, heard.append, LATCHED)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    try:
        end = time.monotonic() + patience
        while time.monotonic() < end and not heard:
            executor.spin_once(timeout_sec=0.05)
        assert listener.count_publishers(topic) == 1
        return [message.data for message in heard]
    finally:
        executor.shutdown()
        listener.destroy_node()


def test_nobody_receives_an_alert_that_was_not_repeated_for_five_periods(context):
    # Lost messages are resent in the same way as this one is sent to a late joiner.
    node = rclpy.create_node('monitor_that_hangs', context=context)
    try:
        slow, fast = (
            create_alert_publisher(node, topic, rate)
            for topic, rate in (('slow_alert', 1.0), ('fast_alert', 50.0)))
        for publisher in (slow, fast):
            publisher.publish(Bool(data=False))
        time.sleep(0.5)
        assert received_late(context, node, '/slow_alert', 20.0) == [False]
        assert received_late(context, node, '/fast_alert') == []
    finally:
        node.destroy_node()


@pytest.fixture
def gate(context):
    """Return a gate whose clock is not checked while a test runs; it is not executed."""
    node = SafetyStopNode(context=context, parameter_overrides=[
        Parameter('alert_timeout', value=5.0), Parameter('command_timeout', value=5.0)])
    yield node
    node.destroy_node()


def command():
    return Twist(linear=Vector3(x=1.0))


def test_a_late_false_does_not_open_the_gate_and_a_late_true_closes_it(gate):
    gate._alert_received(Bool(data=False), told())
    assert gate._reason is GateReason.PASSING
    gate._gate.deadline_missed()  # the monitor hangs
    gate._act()
    gate._alert_received(Bool(data=False), told(age=7.0))
    assert gate._reason is GateReason.ALERT_DEADLINE_MISSED
    assert gate._state().values['alerts_late'] == 1
    gate._alert_received(Bool(data=False), told())
    assert gate._reason is GateReason.PASSING
    gate._alert_received(Bool(data=True), told(age=7.0))
    assert gate._reason is GateReason.ALERT


def test_a_late_command_is_discarded(gate):
    gate._alert_received(Bool(data=False), told())
    gate._command_received(command(), told())
    assert gate._forwarded == 1
    gate._command_received(command(), told(age=7.0))
    assert (gate._forwarded, gate._stale) == (1, 1)
    gate._command_received(command(), told())
    assert gate._forwarded == 2


class Arrivals:
    """Stands in for the camera's alert, which notes arrivals only."""

    def image_arrived(self, publisher, arrived):
        pass


def test_a_late_image_counts_as_old_even_without_a_common_clock(context):
    node = rclpy.create_node('monitor', context=context)
    (slot,) = LatestFrameQueue(1).slots
    try:
        subscription = ImageSubscription(node, node.get_logger(), 'raw', 'image', Arrivals(), slot)
        for age in (0.0, 3.0):
            message = rgb_message(np.zeros((1, 1, 3), np.uint8), time.time_ns())
            subscription._receive(message, told(age))
            assert slot._frame.late == pytest.approx(age, abs=0.05)
    finally:
        node.destroy_node()


def test_a_subscription_that_could_not_be_renewed_is_tried_again(context, monkeypatch):
    node = rclpy.create_node('monitor', context=context)
    (slot,) = LatestFrameQueue(1).slots
    try:
        subscription = ImageSubscription(node, node.get_logger(), 'raw', 'image', Arrivals(), slot)
        create, failures = node.create_subscription, iter([True])

        def fails_once(*args, **named):
            if next(failures, False):
                raise RuntimeError('no memory')
            return create(*args, **named)

        monkeypatch.setattr(node, 'create_subscription', fails_once)
        monkeypatch.setattr(
            subscription, '_wanted', lambda: rclpy.qos.ReliabilityPolicy.BEST_EFFORT)
        with pytest.raises(RuntimeError):
            subscription.follow()
        assert not list(node.subscriptions)
        subscription.follow()
        assert len(list(node.subscriptions)) == 1
        assert subscription.reliability is rclpy.qos.ReliabilityPolicy.BEST_EFFORT
        subscription.close()
        subscription.close()
        assert not list(node.subscriptions)
    finally:
        node.destroy_node()
