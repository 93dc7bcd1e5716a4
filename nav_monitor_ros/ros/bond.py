"""Bond with Nav2's lifecycle manager, by which the manager notices that the node has died.

Both sides publish heartbeats on the topic ``bond``. They have the same id, the node's name, and
each has an instance id. A side that ends the bond says so (``active`` false) until the other side
acknowledges it in the same way; a side that falls silent is dead.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from enum import Enum
from typing import Any

from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer

from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import reliable, unattended

try:
    from bond.msg import Constants, Status
except ImportError:  # the node works without, and says so
    Constants = Status = None

TOPIC = 'bond'  # relative to the node's namespace, as in Nav2
REMEMBERED = 32  # largest number of former instances whose late messages are ignored


class BondState(Enum):
    """State of a bond."""

    NONE = 'the node is not active'
    WAITING = 'waiting for the lifecycle manager'
    FORMED = 'formed with the lifecycle manager'
    ENDING = 'ending'
    ENDED = 'ended by the lifecycle manager'
    ALONE = 'no lifecycle manager has joined the bond'


class LifecycleBond:
    """The node's side of the bond. Used by the executor's thread only.

    The heartbeat is a timer of the executor on the steady clock: a node whose executor no longer
    serves anybody is dead for the manager. As in Nav2's own nodes, the silence of the manager does
    not end the bond. The endpoints are created once, so that a new activation does not have to be
    discovered.
    """

    def __init__(self, node: LifecycleNode, period: float, clock: Clock, log: QueuedLog) -> None:
        """Create the endpoints; there is no bond until ``form``.

        Args:
            node: Node whose name is the id of the bond.
            period: Time between two heartbeats, seconds.
            clock: Steady clock of the timers.
            log: Log of the node.
        """
        self.state = BondState.NONE
        self._node, self._period, self._clock, self._log = node, period, clock, log
        self._id = node.get_name()
        self._instance = ''
        self._other = ''  # instance id of the manager's side
        self._former: deque[str] = deque(maxlen=REMEMBERED)  # instances of both sides
        self._since = 0.0  # begin of the state, seconds on the steady clock
        self._timer: Timer | None = None
        self._publisher = node.create_publisher(Status, TOPIC, reliable(5), **unattended())
        self._subscription = node.create_subscription(Status, TOPIC, self._receive, reliable(100))

    def form(self) -> None:
        """Begin a new bond, with a new instance; one that is still ending is dropped."""
        self._former.extend(filter(None, (self._instance, self._other)))
        self._instance, self._other = str(uuid.uuid4()), ''
        self._enter(BondState.WAITING, self._period)
        self._publish(active=True)

    def end(self) -> None:
        """End the bond, and say so until the manager acknowledges it."""
        if self.state in (BondState.WAITING, BondState.FORMED):
            acknowledged = self.state is BondState.WAITING  # nobody is there to do so
            self._publish(active=False)
            if acknowledged:
                self._enter(BondState.NONE)
            else:
                self._enter(BondState.ENDING, Constants.DEAD_PUBLISH_PERIOD)

    def _receive(self, status: Any) -> None:
        if status.id != self._id or status.instance_id in (self._instance, *self._former):
            return  # another bond, this side itself, or a late message of a former bond
        if status.active:
            self._other = status.instance_id
            if self.state is BondState.WAITING:
                self._log.info(f"bond '{self._id}' with the lifecycle manager formed")
                self._enter(BondState.FORMED, self._period)
        elif self.state is BondState.FORMED:
            self._publish(active=False)  # the acknowledgement
            self._log.info(f"the lifecycle manager has ended the bond '{self._id}'")
            self._enter(BondState.ENDED)
        elif self.state is BondState.ENDING:
            self._enter(BondState.NONE)

    def _tick(self) -> None:
        waited = time.monotonic() - self._since
        if self.state is BondState.WAITING and waited > Constants.DEFAULT_CONNECT_TIMEOUT:
            self._publish(active=False)
            self._log.warning(
                f"nobody has joined the bond '{self._id}' for {waited:.0f} s: no lifecycle manager "
                'notices the death of this node; does its bond_timeout exceed 0?'
            )
            self._enter(BondState.ALONE)
        elif self.state is BondState.ENDING:
            self._publish(active=False)
            if waited > Constants.DEFAULT_DISCONNECT_TIMEOUT:
                self._enter(BondState.NONE)
        elif self.state in (BondState.WAITING, BondState.FORMED):
            self._publish(active=True)

    def _enter(self, state: BondState, period: float | None = None) -> None:
        """Change the state; ``period`` is that of its timer, None if it needs none."""
        self.state, self._since = state, time.monotonic()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._node.destroy_timer(timer)
        if period is not None:
            self._timer = self._node.create_timer(period, self._tick, clock=self._clock)

    def _publish(self, *, active: bool) -> None:
        status = Status(
            id=self._id, instance_id=self._instance, active=active,
            heartbeat_timeout=Constants.DEFAULT_HEARTBEAT_TIMEOUT, heartbeat_period=self._period,
        )
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(status)


def create_bond(
    node: LifecycleNode, period: float, clock: Clock, log: QueuedLog
) -> LifecycleBond | None:
    """Return the node's side of a bond; None, after a warning, if its messages are not installed.

    Args:
        node: As for ``LifecycleBond``.
        period: As for ``LifecycleBond``.
        clock: As for ``LifecycleBond``.
        log: As for ``LifecycleBond``.
    """
    if Status is None:
        log.warning(
            'the messages of bond are not installed (ros-$ROS_DISTRO-bond), so there is no bond: '
            "Nav2's lifecycle manager needs bond_timeout 0.0, and does not notice the death of "
            'this node'
        )
        return None
    return LifecycleBond(node, period, clock, log)
