"""The alerts of all cameras of one node and the combined alert, changed by named events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from types import MappingProxyType

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Bool, Header

from nav_monitor_ros.decision.alert.combined_alert import combine, combined_values
from nav_monitor_ros.decision.alert.reason import Alert, Reason
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.ros.monitor.alert_publisher import (
    AlertPublisher,
    create_alert_publisher,
    differs,
    wait_for_all_acked,
)
from nav_monitor_ros.ros.monitor.alert_report import AlertStatus, log_change
from nav_monitor_ros.ros.process.log import QueuedLog


class AlertPublishers:
    """Alerts of one node. Thread-safe.

    One lock is held while a state machine handles an event and while anything is published.
    Therefore the combined alert never lags behind a camera's, and an older False never overtakes a
    newer True on any topic. Nothing under the lock can block, and the alert is published before
    its status, its log line and everything else that follows from it.
    """

    def __init__(
        self,
        node: LifecycleNode,
        rules: Mapping[str, AlertRules],
        rate: float,
        log: QueuedLog,
    ) -> None:
        """Create the publishers and publish True on all of them.

        Args:
            node: Node that owns the publishers.
            rules: Rules for each camera's alert, by the camera's name; the name is ``''`` if the
                node has one camera, whose alert is ``ood_alert`` itself.
            rate: Rate in Hz at which ``repeat`` will be called, which determines the offered
                deadline and lease.
            log: Log for a line about each change.
        """
        lock = threading.Lock()
        now = time.monotonic()
        publishers = {
            name: AlertPublisher(node, name, AlertMachine(its, now, may_be_restart=True), rate, log)
            for name, its in rules.items()
        }
        self._combined = None if '' in rules else _CombinedAlert(node, publishers, rate, log)
        self.cameras: dict[str, CameraAlert] = {
            name: CameraAlert(publisher, self._combined, lock)
            for name, publisher in publishers.items()
        }
        self._publishers, self._lock = publishers, lock
        for publisher in publishers.values():
            publisher.report(publisher.update(now))
        if self._combined is not None:
            self._combined.update(now, repeat=True)

    @property
    def alert(self) -> Alert:
        """Last published ``ood_alert``."""
        if self._combined is not None:
            return self._combined.alert
        (only,) = self.cameras.values()
        return only.alert

    def model_loaded(self) -> None:
        """Handle the event that a model was loaded."""
        self._tell_all(lambda machine, now: machine.model_loaded())

    def model_failed(self, detail: str) -> None:
        """Handle the event that no model is available; ``detail`` is the reason in one line."""
        self._tell_all(lambda machine, now: machine.model_failed(detail))

    def node_activated(self) -> None:
        """Handle the event that the node starts to judge images."""
        self._tell_all(lambda machine, now: machine.activate(True, now))

    def node_deactivated(self) -> None:
        """Handle the event that the node stops judging images."""
        self._tell_all(lambda machine, now: machine.activate(False, now))

    def activation_failed(self, detail: str, header: Header) -> None:
        """Handle the event that the node could not be activated.

        Args:
            detail: Reason in one line.
            header: Header of the statuses, which are published even if no alert changes.
        """
        self._tell_all(lambda machine, now: machine.activation_failed(detail), header)

    def worker_died(self, detail: str) -> None:
        """Handle the event that the thread that judges images has ended unexpectedly."""
        self._tell_all(
            lambda machine, now: machine.frame_failed(Reason.INFERENCE_ERROR, detail)
        )

    def repeat(self) -> None:
        """Update every alert to the current time and publish it, changed or not."""
        for camera in self.cameras.values():
            camera.repeat()
        if self._combined is not None:
            with self._lock:
                self._combined.update(time.monotonic(), repeat=True)

    def wait_for_all_acked(self, timeout: float) -> None:
        """Wait until reliable subscribers have all last alerts, at most ``timeout`` seconds."""
        end = time.monotonic() + timeout
        for publisher in (self._combined, *self._publishers.values()):
            if publisher is not None:
                publisher.wait_for_all_acked(max(0.0, end - time.monotonic()))

    def _tell_all(self, event: _Event, header: Header | None = None) -> None:
        for camera in self.cameras.values():
            camera._tell(event, header)


class CameraAlert:
    """Alert of one camera and the events that change it. Thread-safe."""

    def __init__(
        self, publisher: AlertPublisher, combined: _CombinedAlert | None, lock: threading.Lock
    ) -> None:
        """Create the alert; nothing is published yet.

        Args:
            publisher: Publisher of the camera's alert.
            combined: Combined alert, if the node has several cameras.
            lock: Lock that is held while an event is handled and published; shared by all cameras
                of the node.
        """
        self._publisher, self._combined, self._lock = publisher, combined, lock

    @property
    def alert(self) -> Alert:
        """Last published alert."""
        return self._publisher.alert

    @property
    def calibration_stale(self) -> str:
        """Why the calibration no longer fits the camera's images, in one line; '' if it does."""
        return self._publisher.machine.calibration_stale

    @property
    def input_rate(self) -> float | None:
        """Rate of arriving images in Hz; None while it is unknown."""
        return self._publisher.machine.input_rate

    @property
    def input_rate_warning(self) -> str:
        """Description of a rate below ``input_rate_warn``, in one line; '' if it suffices."""
        return self._publisher.machine.input_rate_warning

    def on_rise(self, notify: Callable[[Alert], None] | None) -> None:
        """Set a function, which must be fast, to call whenever the alert changes to True."""
        self._publisher.on_rise = notify

    def image_arrived(self, publisher: Hashable, arrived: float) -> None:
        """Handle the arrival of an image; nothing is published.

        Args:
            publisher: Identity of the image's publisher.
            arrived: Arrival time on the steady clock, seconds.
        """
        with self._lock:
            self._publisher.machine.image_arrived(arrived, time.monotonic(), publisher)

    def frame_judged(
        self,
        verdict: Verdict,
        fingerprint: int,
        capture_time: float,
        header: Header,
        *,
        arrived: float,
        values: Mapping[str, object],
        dismissed: threading.Event,
    ) -> Alert | None:
        """Handle the verdict on a frame.

        Args:
            verdict: Verdict on the frame alone.
            fingerprint: Checksum of the pixels.
            capture_time: Best known capture time of the image on the steady clock, seconds.
            header: Header of the image.
            arrived: Arrival time of the image on the steady clock, seconds; the status reports the
                latency since then.
            values: Further values for the status.
            dismissed: Event that is set once the caller must no longer publish for this camera.

        Returns:
            New alert; None if the caller was dismissed, and nothing was published.
        """
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        with self._lock:
            if dismissed.is_set():
                return None
            now = time.monotonic()
            self._publisher.machine.frame_judged(
                verdict.evidence, stamp_ns, fingerprint, now, capture_time
            )
            self._publish(now, header, verdict, values, arrived)
            return self._publisher.alert

    def frame_failed(self, reason: Reason, detail: str, header: Header) -> None:
        """Handle a frame that could not be judged; its status has the image's header."""
        self._tell(lambda machine, now: machine.frame_failed(reason, detail), header)

    def input_explained(self, fault: str) -> None:
        """Set the likely cause of missing images, in one line, for the detail of such an alert."""
        if fault == self._publisher.machine.input_fault:
            return

        def explain(machine: AlertMachine, _now: float) -> None:
            machine.input_fault = fault

        self._tell(explain)

    def rules_changed(self, rules: AlertRules) -> None:
        """Apply changed rules."""
        changes = {field.name: getattr(rules, field.name) for field in fields(rules)}
        self._tell(lambda machine, now: machine.change_rules(**changes))

    def latch_reset(self) -> Alert:
        """Release a latched alert; return the new alert."""
        return self._tell(lambda machine, now: machine.reset())

    def camera_enabled(self, enabled: bool) -> Alert:
        """Handle the switching of the camera on or off; return the new alert."""
        return self._tell(lambda machine, now: machine.enable(enabled, now))

    def repeat(self) -> None:
        """Update the alert to the current time and publish it, changed or not."""
        with self._lock:
            self._publish(time.monotonic(), repeat=True)

    def _tell(self, event: _Event, header: Header | None = None) -> Alert:
        """Pass an event to the state machine and publish the result."""
        with self._lock:
            now = time.monotonic()
            event(self._publisher.machine, now)
            self._publish(now, header, event=True)
            return self._publisher.alert

    def _publish(
        self,
        now: float,
        header: Header | None = None,
        verdict: Verdict | None = None,
        values: Mapping[str, object] = MappingProxyType({}),
        arrived: float | None = None,
        *,
        repeat: bool = False,
        event: bool = False,
    ) -> None:
        before = self._publisher.update(now, repeat=repeat)
        if self._combined is not None:
            self._combined.update(now, self._publisher)
        self._publisher.report(before, header, verdict, values, arrived, event=event)


class _CombinedAlert:
    """``ood_alert`` of several cameras: True if any of theirs is. Callers must hold the lock."""

    def __init__(
        self,
        node: LifecycleNode,
        cameras: Mapping[str, AlertPublisher],
        rate: float,
        log: QueuedLog,
    ) -> None:
        self._cameras, self._log = cameras, log
        self._publisher = create_alert_publisher(node, 'ood_alert', rate)
        self._status = AlertStatus(node)
        self._parts: dict[str, Alert] = {}  # alert of each camera at the last combination
        self._alert: Alert | None = None

    @property
    def alert(self) -> Alert:
        assert self._alert is not None
        return self._alert

    def update(
        self, now: float, updated: AlertPublisher | None = None, *, repeat: bool = False
    ) -> None:
        """Combine the cameras' alerts; publish the combined one if any of them has changed.

        Args:
            now: Time on the steady clock, seconds.
            updated: Camera whose alert has just been computed; the others are refreshed.
            repeat: Whether to publish in any case.
        """
        parts, before = self._parts, self._alert
        self._combine(now, updated)
        if repeat or _differ(parts, self._parts):
            self._publish(before)

    def wait_for_all_acked(self, timeout: float) -> None:
        wait_for_all_acked(self._publisher, timeout)

    def _combine(self, now: float, updated: AlertPublisher | None = None) -> None:
        for camera in self._cameras.values():
            if camera is not updated:
                camera.refresh(now)
        self._parts = {name: camera.alert for name, camera in self._cameras.items()}
        self._alert = combine(self._parts)

    def _publish(self, before: Alert | None) -> None:
        self._publisher.publish(Bool(data=self.alert.value))
        if not self.alert.value:
            # The process may have been stopped between the computation and the publication.
            self._combine(time.monotonic())
            if self.alert.value:
                self._publisher.publish(Bool(data=True))
        if before is not None and self.alert.value != before.value:
            log_change(self._log, 'ood_alert', before, self.alert)
        self._status.publish(self.alert, combined_values(self._parts))


def _differ(before: Mapping[str, Alert], after: Mapping[str, Alert]) -> bool:
    """Return whether the published alert of any camera has changed."""
    return any(differs(before.get(name), alert) for name, alert in after.items())


_Event = Callable[[AlertMachine, float], None]  # state machine, seconds on the steady clock
