"""The alerts of all cameras of one node, and the combined one: what happens, in named events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from types import MappingProxyType

from rclpy.duration import Duration
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
)
from nav_monitor_ros.ros.monitor.alert_report import AlertStatus, log_change
from nav_monitor_ros.ros.process.log import QueuedLog


class AlertPublishers:
    """The alerts of one node. Safe to use from several threads.

    One lock is held while any state machine takes an event in and anything is published: so the
    combined alert is never behind what a camera has said, and an older False overtakes a newer True
    on no topic. Nothing under the lock can block, and the alert is out before its status, its line
    of the log and whatever else follows from it.
    """

    def __init__(
        self,
        node: LifecycleNode,
        rules: Mapping[str, AlertRules],
        rate: float,
        log: QueuedLog,
    ) -> None:
        """Create the publishers and publish True on all.

        Args:
            node: Owns the publishers.
            rules: When each camera's alert changes, by the camera's name; ``''`` where the node has
                one camera, whose alert is ``ood_alert`` itself.
            rate: How often ``repeat`` will be called, Hz; sets the offered deadline and lease.
            log: Gets a line for each change.
        """
        lock = threading.Lock()
        now = time.monotonic()
        publishers = {
            name: AlertPublisher(node, name, AlertMachine(its, now), rate, log)
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
        """Return what ``ood_alert`` said last."""
        if self._combined is not None:
            return self._combined.alert
        (only,) = self.cameras.values()
        return only.alert

    def model_loaded(self) -> None:
        """Take in that a model was loaded."""
        self._tell_all(lambda machine, now: machine.model_loaded())

    def model_failed(self, detail: str) -> None:
        """Take in that there is no model to judge with, and why, in one line."""
        self._tell_all(lambda machine, now: machine.model_failed(detail))

    def node_activated(self) -> None:
        """Take in that the node judges images from now on."""
        self._tell_all(lambda machine, now: machine.activate(True, now))

    def node_deactivated(self) -> None:
        """Take in that the node judges no images any more."""
        self._tell_all(lambda machine, now: machine.activate(False, now))

    def activation_failed(self, detail: str, header: Header) -> None:
        """Take in why the node could not become active, in one line.

        Args:
            detail: Why.
            header: Of the statuses, which are published even if no alert changes.
        """
        self._tell_all(lambda machine, now: machine.activation_failed(detail), header)

    def worker_died(self, detail: str) -> None:
        """Take in that the thread that judges the images has ended by itself."""
        self._tell_all(
            lambda machine, now: machine.frame_failed(Reason.INFERENCE_ERROR, detail)
        )

    def repeat(self) -> None:
        """Look at the clock and publish every alert, changed or not."""
        for camera in self.cameras.values():
            camera.repeat()
        if self._combined is not None:
            with self._lock:
                self._combined.update(time.monotonic(), repeat=True)

    def wait_for_all_acked(self, timeout: float) -> None:
        """Wait until all reliable subscribers have the last alerts, so many seconds at most."""
        end = time.monotonic() + timeout
        for publisher in (self._combined, *self._publishers.values()):
            if publisher is not None:
                publisher.wait_for_all_acked(max(0.0, end - time.monotonic()))

    def _tell_all(self, event: _Event, header: Header | None = None) -> None:
        for camera in self.cameras.values():
            camera._tell(event, header)


class CameraAlert:
    """The alert of one camera, by the events that change it. Safe to use from several threads."""

    def __init__(
        self, publisher: AlertPublisher, combined: _CombinedAlert | None, lock: threading.Lock
    ) -> None:
        """Take a publisher into service; ``repeat`` publishes for the first time.

        Args:
            publisher: The camera's own.
            combined: Follows from it, where the node has several cameras.
            lock: Is held while an event is taken in and published; shared by the node's cameras.
        """
        self._publisher, self._combined, self._lock = publisher, combined, lock

    @property
    def alert(self) -> Alert:
        """Return what was published last."""
        return self._publisher.alert

    @property
    def calibration_stale(self) -> str:
        """Return in one line how the camera's world has left the calibration's, or nothing."""
        return self._publisher.machine.calibration_stale

    def on_rise(self, notify: Callable[[Alert], None] | None) -> None:
        """Have a function called, which must be quick, whenever False becomes True."""
        self._publisher.on_rise = notify

    def image_arrived(self, publisher: Hashable, arrived: float) -> None:
        """Take in that an image has arrived; nothing is published.

        Args:
            publisher: Equal for the images of one publisher.
            arrived: When it came (steady, seconds).
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
        """Take in the verdict on a frame.

        Args:
            verdict: On the frame alone.
            fingerprint: A checksum of the pixels.
            capture_time: When the image was taken, as far as that is known (steady, seconds).
            header: The image's.
            arrived: When the image came (steady, seconds); the status tells the latency.
            values: More values for the status.
            dismissed: Is set when the caller may not speak for this camera any more.

        Returns:
            The alert after it; None if the caller was dismissed, and nothing was published.
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
        """Take in that a frame could not be judged, and why; its status has the image's header."""
        self._tell(lambda machine, now: machine.frame_failed(reason, detail), header)

    def input_explained(self, fault: str) -> None:
        """Take in why images may be missing, in one line; the detail of such an alert names it."""
        if fault == self._publisher.machine.input_fault:
            return

        def explain(machine: AlertMachine, _now: float) -> None:
            machine.input_fault = fault

        self._tell(explain)

    def rules_changed(self, rules: AlertRules) -> None:
        """Take in other rules."""
        changes = {field.name: getattr(rules, field.name) for field in fields(rules)}
        self._tell(lambda machine, now: machine.change_rules(**changes))

    def latch_reset(self) -> Alert:
        """Take in that a latched alert is released; return the alert after it."""
        return self._tell(lambda machine, now: machine.reset())

    def camera_enabled(self, enabled: bool) -> Alert:
        """Take in that the camera was switched on or off; return the alert after it."""
        return self._tell(lambda machine, now: machine.enable(enabled, now))

    def repeat(self) -> None:
        """Look at the clock and publish the alert, changed or not."""
        with self._lock:
            self._publish(time.monotonic(), repeat=True)

    def _tell(self, event: _Event, header: Header | None = None) -> Alert:
        """Take an event into the state machine and publish what follows from it."""
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
    """``ood_alert`` of several cameras: True if any of theirs is. Callers hold the lock."""

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
        self._parts: dict[str, Alert] = {}  # each camera's, as they were combined last
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
            now: Seconds, steady clock.
            updated: The camera whose alert has just been computed; the others are refreshed.
            repeat: Publish it anyway.
        """
        parts, before = self._parts, self._alert
        self._combine(now, updated)
        if repeat or _differ(parts, self._parts):
            self._publish(before)

    def wait_for_all_acked(self, timeout: float) -> None:
        self._publisher.wait_for_all_acked(Duration(seconds=timeout))

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
    """Return whether any camera's alert is another one for those who listen."""
    return any(differs(before.get(name), alert) for name, alert in after.items())


_Event = Callable[[AlertMachine, float], None]  # the machine, seconds on the steady clock
