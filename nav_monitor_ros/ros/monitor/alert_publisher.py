"""``ood_alert`` and ``~/ood_status``: the alert's state machine, spoken aloud."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import LivelinessPolicy
from std_msgs.msg import Bool, Header

from nav_monitor_ros.decision.alert_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.alert_reason import Alert
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.ros.messages import status_message
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import latched, unattended

DEADLINE_PERIODS = 3  # offered deadline of ood_alert, in periods of its repetition
LEASE_PERIODS = 5  # its liveliness lease


def alert_publisher(node: LifecycleNode, topic: str, rate: float) -> Publisher:
    """Return a publisher of an alert, whose silence the middleware reports.

    Args:
        node: Owns it.
        topic: Its name.
        rate: How often it will speak at least, Hz; sets the offered deadline and lease.
    """
    return node.create_publisher(
        Bool,
        topic,
        latched(
            deadline=Duration(seconds=DEADLINE_PERIODS / rate),
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=Duration(seconds=LEASE_PERIODS / rate),
        ),
    )


class AlertPublisher:
    """Owns the state machine; publishes each change at once and repeats the alert when asked.

    Safe to use from several threads. Plain publishers, so that the alert is heard in every
    lifecycle state, on the steady clock, so that a paused bag does not silence it. The alert is
    published before anything else is done, and nothing under the lock can block.
    """

    def __init__(
        self,
        node: LifecycleNode,
        rules: AlertRules,
        rate: float,
        log: QueuedLog,
        camera: str = '',
        lock: threading.Lock | None = None,
    ) -> None:
        """Create the publishers and say True.

        Args:
            node: Owns the publishers.
            rules: When the alert changes.
            rate: How often ``repeat`` will be called, Hz; sets the offered deadline and lease.
            log: Gets a line for each change.
            camera: Name of the camera, where the node has several.
            lock: Is held while anything is told or said; shared by the cameras of one node.
        """
        self._node = node
        self._log = log
        self._lock = lock or threading.Lock()
        self._machine = AlertMachine(rules, time.monotonic())
        prefix = f'{camera}/' if camera else ''
        self._topic = f'{prefix}ood_alert'
        self._title = ': '.join(filter(None, (node.get_fully_qualified_name(), camera, 'ood')))
        self._bool_publisher = alert_publisher(node, self._topic, rate)
        self._status_publisher = node.create_publisher(
            DiagnosticArray, f'~/{prefix}ood_status', latched(), **unattended()
        )
        self.on_rise: Callable[[Alert], None] | None = None  # called when False becomes True
        # Called, with the lock held, as soon as what this camera says is out.
        self.then: Callable[[], object] | None = None
        self._said: Alert | None = None
        self._last_frame_id = ''
        self.tell(lambda machine, now: None)

    @property
    def alert(self) -> Alert:
        """Return what was said last."""
        assert self._said is not None
        return self._said

    @property
    def calibration_stale(self) -> str:
        """Return in one line how the camera's world has left the calibration's, or nothing."""
        return self._machine.calibration_stale

    def tell(
        self,
        event: Callable[[AlertMachine, float], None],
        *,
        header: Header | None = None,
        verdict: Verdict | None = None,
        extra: Callable[[], Mapping[str, object]] = dict,
    ) -> Alert:
        """Tell the state machine what happened; publish what follows from it.

        Args:
            event: Is called with the machine and the time (steady, seconds).
            header: The image's, where the event is about one; then the status is published even
                if the alert stays as it was.
            verdict: The image's.
            extra: Gives more values for the status; called once the alert is out.

        Returns:
            The alert after the event.
        """
        with self._lock:
            event(self._machine, time.monotonic())
            before, alert = self._said, self._judge()
            changed = _differ(before, alert)
            if changed:
                alert = self._say(alert)
            if self.then is not None:
                self.then()
            self._note(before, alert)
            if changed or header is not None:
                self._publish_status(alert, header, verdict, extra())
            return alert

    def image_arrived(self, camera: Hashable, arrived: float) -> None:
        """Note the arrival of an image of some camera; nothing is published.

        Args:
            camera: Equal for the images of one camera.
            arrived: When it came (steady, seconds).
        """
        with self._lock:
            now = time.monotonic()
            self._machine.image_arrived(arrived, now)
            self._machine.image_from(camera, now)

    def explain_input(self, trouble: str) -> None:
        """Note why images may be missing, in one line; the detail of such an alert names it."""
        with self._lock:
            self._machine.input_trouble = trouble

    def deliver(self, timeout: float) -> bool:
        """Wait until every reliable subscriber has the last alert.

        A process that ends at once takes with it what was published but not yet sent again to a
        subscriber that missed it.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether all have it.
        """
        return self._bool_publisher.wait_for_all_acked(Duration(seconds=timeout))

    def repeat(self) -> Alert:
        """Look at the clock and publish the alert, changed or not."""
        with self._lock:
            before = self._said
            alert = self._say(self._judge())
            if self.then is not None:
                self.then()
            self._note(before, alert)
            if _differ(before, alert):
                self._publish_status(alert, None, None, {})
            return alert

    def look(self) -> Alert:
        """Look at the clock and say what has changed; only for who holds the lock."""
        before, alert = self._said, self._judge()
        if _differ(before, alert):
            alert = self._say(alert)
            self._note(before, alert)
            self._publish_status(alert, None, None, {})
        return alert

    def _judge(self) -> Alert:
        self._said = self._machine.alert(time.monotonic())
        return self._said

    def _say(self, alert: Alert) -> Alert:
        """Publish the alert; return it, or the newer one that had to be said at once after it."""
        self._bool_publisher.publish(Bool(data=alert.value))
        if not alert.value:
            # The process may have been stopped between the judgement and the publication.
            later = self._judge()
            if later.value:
                self._bool_publisher.publish(Bool(data=True))
                return later
        return alert

    def _note(self, before: Alert | None, alert: Alert) -> None:
        """Do what follows from a change once it is out: nothing of it may take long."""
        if not _differ(before, alert):
            return
        if alert.value and before is not None and not before.value and self.on_rise is not None:
            self.on_rise(alert)
        # What is wrong with the input has a line of its own, once.
        detail = alert.detail.removesuffix(f'; {self._machine.input_trouble}')
        text = f'{self._topic} {alert.value}: {alert.reason.value} {detail}'.rstrip()
        if alert.value:
            self._log.warning(text)
        elif before is not None and before.value:
            self._log.info(text)
        else:  # suspect and back, as often as single frames are flagged
            self._log.debug(text)

    def _publish_status(
        self,
        alert: Alert,
        header: Header | None,
        verdict: Verdict | None,
        extra: Mapping[str, object],
    ) -> None:
        if header is None:
            header = Header(
                stamp=self._node.get_clock().now().to_msg(), frame_id=self._last_frame_id
            )
        self._last_frame_id = header.frame_id
        values = {
            'evidence': self._machine.evidence,
            'calibration_stale': self._machine.calibration_stale or 'no',
            **extra,
        }
        self._status_publisher.publish(
            status_message(
                header,
                self._title,
                header.frame_id,
                alert,
                verdict,
                values,
            )
        )


def _differ(before: Alert | None, alert: Alert) -> bool:
    """Return whether who listens has to be told of an alert after another one."""
    return before is None or (before.value, before.reason) != (alert.value, alert.reason)
