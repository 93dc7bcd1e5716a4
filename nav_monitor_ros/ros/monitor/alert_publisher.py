"""Publisher of one camera's ``ood_alert``, which the state machine computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from std_msgs.msg import Bool, Header

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.alert.state_machine import AlertMachine
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.ros import qos_overrides
from nav_monitor_ros.ros.monitor.alert_report import AlertStatus, log_change
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import repeated

ACKNOWLEDGED_LOOK = 0.001  # duration of one look for acknowledgements, seconds
ACKNOWLEDGED_PAUSE = 0.01  # seconds between two


def create_alert_publisher(node: LifecycleNode, topic: str, rate: float) -> Publisher:
    """Return a publisher of an alert; its QoS is ``repeated``.

    Args:
        node: Node that owns the publisher.
        topic: Name of the topic.
        rate: Least publication rate, Hz.
    """
    return node.create_publisher(
        Bool, topic, repeated(rate), qos_overriding_options=qos_overrides.of_an_alert(rate)
    )


class AlertPublisher:
    """Publisher of one state machine's alert. Not thread-safe: callers must hold a common lock.

    It is not a lifecycle publisher, so that the alert is published in every lifecycle state.
    """

    def __init__(
        self, node: LifecycleNode, camera: str, machine: AlertMachine, rate: float, log: QueuedLog
    ) -> None:
        """Create the publishers; nothing is published yet.

        Args:
            node: Node that owns the publishers.
            camera: Name of the camera; '' if the node has only one.
            machine: State machine that computes the alert.
            rate: Rate in Hz at which ``update`` will be called with ``repeat``.
            log: Log for a line about each change.
        """
        self.machine = machine
        self.on_rise: Callable[[Alert], None] | None = None  # called when False becomes True
        self._alert: Alert | None = None
        self._topic = f'{camera}/ood_alert' if camera else 'ood_alert'
        self._publisher = create_alert_publisher(node, self._topic, rate)
        self._status = AlertStatus(node, camera)
        self._log = log

    @property
    def alert(self) -> Alert:
        """Alert as of the last update."""
        assert self._alert is not None
        return self._alert

    def update(self, now: float, *, repeat: bool = False) -> Alert | None:
        """Compute the alert; publish it if its value or reason has changed.

        Args:
            now: Time on the steady clock, seconds.
            repeat: Whether to publish it in any case.

        Returns:
            Previous alert; None at the first call.
        """
        before, self._alert = self._alert, self.machine.alert(now)
        if repeat or differs(before, self._alert):
            self._publish()
        return before

    def report(
        self,
        before: Alert | None,
        header: Header | None = None,
        verdict: Verdict | None = None,
        values: Mapping[str, object] = MappingProxyType({}),
        arrived: float | None = None,
        *,
        event: bool = False,
    ) -> None:
        """Log a change and publish the status, after the alert has been published.

        Args:
            before: Return value of ``update``.
            header: Header of the image, if the update follows from one; the status is then
                published even if the alert has not changed.
            verdict: Verdict on the image.
            values: Further values for the status.
            arrived: Arrival time of the image on the steady clock, seconds.
            event: Whether the update follows from an event and not only from the passing of time;
                the status is then also published if the detail has changed.
        """
        latency = {} if arrived is None else {'latency_ms': (time.monotonic() - arrived) * 1000}
        alert = self.alert
        changed = differs(before, alert)
        if changed:
            if alert.value and before is not None and not before.value and self.on_rise is not None:
                self.on_rise(alert)
            # A fault of the input is logged separately, once.
            log_change(self._log, self._topic, before, alert, self.machine.input_fault)
        retold = event and before is not None and before.detail != alert.detail
        if changed or retold or header is not None:
            more = {
                'evidence': self.machine.evidence,
                'calibration_stale': self.machine.calibration_stale or 'no',
                **latency,
                **values,
            }
            self._status.publish(alert, more, header, verdict)

    def refresh(self, now: float) -> None:
        """Update and report the alert if the passing of time may have changed it."""
        if now >= self.machine.holds_until:
            self.report(self.update(now))

    def wait_for_all_acked(self, timeout: float) -> bool:
        """Wait until every reliable subscriber has acknowledged the last alert.

        If the process ended immediately, a subscriber that missed the message would never get it.

        Args:
            timeout: Longest time to wait, seconds.

        Returns:
            Whether all have acknowledged it.
        """
        return wait_for_all_acked(self._publisher, timeout)

    def _publish(self) -> None:
        self._publisher.publish(Bool(data=self.alert.value))
        # The process may have been stopped between the computation and the publication.
        if not self.alert.value and (now := time.monotonic()) >= self.machine.holds_until:
            self._alert = self.machine.alert(now)
            if self._alert.value:
                self._publisher.publish(Bool(data=True))


def wait_for_all_acked(publisher: Publisher, timeout: float) -> bool:
    """Wait until every reliable subscriber has acknowledged all messages of a publisher.

    rclpy holds the interpreter's lock while it waits, which would silence other nodes of the
    process, so it only looks, again and again.

    Args:
        publisher: Publisher of the messages.
        timeout: Longest time to wait, seconds.

    Returns:
        Whether all have acknowledged them.
    """
    end = time.monotonic() + timeout
    while not publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGED_LOOK)):
        if time.monotonic() >= end:
            return False
        time.sleep(ACKNOWLEDGED_PAUSE)
    return True


def differs(before: Alert | None, alert: Alert) -> bool:
    """Return whether an alert differs from the previous one in value or reason."""
    return before is None or (before.value, before.reason) != (alert.value, alert.reason)
