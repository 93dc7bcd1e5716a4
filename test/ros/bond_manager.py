"""Stand-in for Nav2's lifecycle manager: transitions and its side of the bond."""

from __future__ import annotations

import time
import uuid

from bond.msg import Constants, Status
from rclpy.qos import QoSProfile, ReliabilityPolicy

QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
PERIOD = 0.25  # bond_heartbeat_period of Nav2's manager, seconds
CHECK = 0.2  # period of its checks for broken bonds, seconds


class ManagersBond:
    """One bond as Nav2's manager has it: created after each activation, broken before the next."""

    def __init__(self, node, publisher, bond_id, timeout):
        self._node, self._publisher, self._id, self._timeout = node, publisher, bond_id, timeout
        self.instance = str(uuid.uuid4())
        self.formed_at = self.broken_at = None
        self._alive = True
        self._last = time.monotonic()
        self._beat = node.create_timer(PERIOD, lambda: self._say(True))
        self._checking = node.create_timer(CHECK, self._check)

    def heard(self, status, at):
        if not self._alive:
            return
        if status.active:
            self._last = at
            self.formed_at = self.formed_at or at
        elif self.formed_at is not None:
            self._say(False)
            self.stop()

    def stop(self):
        """End the bond, as the manager does after a deactivation."""
        if self._alive:
            self._say(False)
        self._alive = False
        self._node.destroy_timer(self._beat)
        self._node.destroy_timer(self._checking)

    def _check(self):
        now = time.monotonic()
        if self._alive and self.formed_at is not None and now - self._last > self._timeout:
            self.broken_at = now
            self.stop()

    def _say(self, active):
        if not self._alive:
            return
        status = Status(
            id=self._id, instance_id=self.instance, active=active, heartbeat_period=PERIOD,
            heartbeat_timeout=float(self._timeout))
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(status)


class Manager:
    """The manager's subscription, and everything that it has heard of the monitored node."""

    def __init__(self, graph, bond_id='nav_monitor', topic='bond'):
        self._graph, self._id = graph, bond_id
        self.bond = None
        self.own = set()  # instance ids of this side
        self.heard = []  # (time, status) of the other side
        self._publisher = graph.node.create_publisher(Status, topic, QOS)
        graph.node.create_subscription(Status, topic, self._receive, QOS)

    def bind(self, timeout):
        """Create a bond, and wait until it is formed, as after an activation."""
        self.bond = ManagersBond(self._graph.node, self._publisher, self._id, timeout)
        self.own.add(self.bond.instance)
        self._graph.wait(
            lambda: self.bond.formed_at, Constants.DEFAULT_CONNECT_TIMEOUT, 'the bond to form')

    def instances(self):
        """Return the instance ids of the other side, oldest first."""
        return list(dict.fromkeys(status.instance_id for _, status in self.heard))

    def _receive(self, status):
        if status.instance_id in self.own:
            return
        now = time.monotonic()
        self.heard.append((now, status))
        if self.bond is not None and status.id == self._id:
            self.bond.heard(status, now)
