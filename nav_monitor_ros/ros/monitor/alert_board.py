"""Everything that the node says of trust: each camera's alert, and of several the combined one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Bool, Header

from nav_monitor_ros.decision.alert_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.alert_reason import Alert
from nav_monitor_ros.decision.combined_alert import combine, combined_values
from nav_monitor_ros.ros.messages import status_message
from nav_monitor_ros.ros.monitor.alert_publisher import AlertPublisher, alert_publisher
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import latched, unattended


class AlertBoard:
    """The alerts of one node. Safe to use from several threads.

    One lock is held whenever a camera's machine is told something and whenever anything is said:
    so the combined alert is never behind what a camera has said, and an older False can overtake a
    newer True on no topic.
    """

    def __init__(
        self,
        node: LifecycleNode,
        rules: Mapping[str, AlertRules],
        rate: float,
        log: QueuedLog,
    ) -> None:
        """Create the publishers and say True on all.

        Args:
            node: Owns the publishers.
            rules: When each camera's alert changes, by the camera's name; ``''`` where the node has
                one camera, whose alert is ``ood_alert`` itself.
            rate: How often ``repeat`` will be called, Hz.
            log: Gets a line for each change.
        """
        lock = threading.Lock()
        self.cameras: dict[str, AlertPublisher] = {
            name: AlertPublisher(node, its, rate, log, name, lock) for name, its in rules.items()
        }
        self._combined = (
            None if '' in self.cameras else _CombinedAlert(node, rate, self.cameras, lock, log)
        )

    @property
    def alert(self) -> Alert:
        """Return what ``ood_alert`` said last."""
        if self._combined is not None:
            return self._combined.alert
        (only,) = self.cameras.values()
        return only.alert

    def tell_all(
        self, event: Callable[[AlertMachine, float], None], header: Header | None = None
    ) -> Alert:
        """Tell every camera's state machine the same.

        Args:
            event: Is called with each machine and the time (steady, seconds).
            header: With it the cameras' statuses are published even if no alert changes.

        Returns:
            What ``ood_alert`` says after it.
        """
        for camera in self.cameras.values():
            camera.tell(event, header=header)
        return self.alert

    def repeat(self) -> None:
        """Look at the clock and publish every alert, changed or not."""
        for camera in self.cameras.values():
            camera.repeat()
        if self._combined is not None:
            self._combined.repeat()

    def deliver(self, timeout: float) -> None:
        """Wait until all reliable subscribers have the last alerts, so many seconds at most."""
        end = time.monotonic() + timeout
        for speaker in (self._combined, *self.cameras.values()):
            if speaker is not None:
                speaker.deliver(max(0.0, end - time.monotonic()))


class _CombinedAlert:
    """``ood_alert`` of several cameras: True if any of theirs is."""

    def __init__(
        self,
        node: LifecycleNode,
        rate: float,
        cameras: Mapping[str, AlertPublisher],
        lock: threading.Lock,
        log: QueuedLog,
    ) -> None:
        self._node, self._cameras, self._lock, self._log = node, cameras, lock, log
        self._publisher = alert_publisher(node, 'ood_alert', rate)
        self._status = node.create_publisher(
            DiagnosticArray, '~/ood_status', latched(), **unattended()
        )
        self._parts = {name: camera.alert for name, camera in cameras.items()}
        self.alert = combine(self._parts)
        with lock:
            self._say(self.alert)
        for camera in cameras.values():
            camera.then = self._update

    def repeat(self) -> None:
        with self._lock:
            before, self.alert = self.alert, self._look()
            self._say(before)

    def deliver(self, timeout: float) -> None:
        self._publisher.wait_for_all_acked(Duration(seconds=timeout))

    def _update(self) -> None:
        """Say what has changed; a camera has just spoken, and the lock is held."""
        told, before = _told(self._parts), self.alert
        self.alert = self._look()
        if _told(self._parts) != told:
            self._say(before)

    def _look(self) -> Alert:
        self._parts = {name: camera.look() for name, camera in self._cameras.items()}
        return combine(self._parts)

    def _say(self, before: Alert) -> None:
        self._publisher.publish(Bool(data=self.alert.value))
        if not self.alert.value:
            # The process may have been stopped between the judgement and the publication.
            self.alert = self._look()
            if self.alert.value:
                self._publisher.publish(Bool(data=True))
        alert = self.alert
        if alert.value != before.value:
            text = f'ood_alert {alert.value}: {alert.reason.value} {alert.detail}'.rstrip()
            self._log.log(logging.WARNING if alert.value else logging.INFO, text)
        self._status.publish(
            status_message(
                Header(stamp=self._node.get_clock().now().to_msg()),
                f'{self._node.get_fully_qualified_name()}: ood',
                '',
                alert,
                None,
                combined_values(self._parts),
            )
        )


def _told(parts: Mapping[str, Alert]) -> list[tuple[bool, str]]:
    """Return what of the cameras' alerts makes a difference to who listens."""
    return [(alert.value, alert.reason.value) for alert in parts.values()]
