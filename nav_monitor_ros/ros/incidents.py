"""What is kept of a rising alert: pictures with their verdicts, and rosbag2's snapshot."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode

from nav_monitor_ros.bundle import Bundle
from nav_monitor_ros.decision.verdict import Alert
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.offline.incidents import IncidentRecorder, IncidentRules, Moment


def snapshot_type() -> Any:
    """Return the type of rosbag2's snapshot service.

    Raises:
        NavMonitorError: It is not installed.
    """
    try:
        return importlib.import_module('rosbag2_interfaces.srv').Snapshot
    except ImportError:
        raise NavMonitorError(
            'snapshot_service needs the package rosbag2_interfaces; install it (apt install '
            'ros-$ROS_DISTRO-rosbag2-interfaces) or leave the parameter empty'
        ) from None


class SnapshotCaller:
    """Asks a rosbag2 recorder to write what it has in memory, and never waits for the answer."""

    def __init__(self, node: LifecycleNode, service: str, kind: Any) -> None:
        """Create the client.

        Args:
            node: Owns it.
            service: Name of the service.
            kind: Its type, whose request is empty and whose answer has ``success``.
        """
        self._node, self._service, self._kind = node, service, kind
        self._client: Any = node.create_client(kind, service)
        self._last = -math.inf
        self._trouble = ''
        self.taken = 0
        self.failed = 0

    def call(self, now: float, interval: float) -> None:
        """Ask for a snapshot, unless one was asked for in the last ``interval`` seconds."""
        if now - self._last < interval:
            return
        self._last = now
        if not self._client.service_is_ready():
            self._fail(f'no snapshot: nobody offers {self._service}')
            return
        self._client.call_async(self._kind.Request()).add_done_callback(self._answered)

    def close(self) -> None:
        """Let the client go."""
        self._node.destroy_client(self._client)

    def _answered(self, future: Any) -> None:
        if future.result() is not None and future.result().success:
            self.taken += 1
            self._trouble = ''
        else:
            self._fail(f'no snapshot: {self._service} answered that it failed')

    def _fail(self, trouble: str) -> None:
        self.failed += 1
        if trouble != self._trouble:  # once, not with every alert
            self._trouble = trouble
            self._node.get_logger().warning(trouble)


class Incidents:
    """Keeps the evidence of rising alerts, as the parameters want it."""

    def __init__(
        self,
        node: LifecycleNode,
        bundle: Bundle,
        values: Callable[[], Mapping[str, Any]],
        load_type: Callable[[], Any] = snapshot_type,
    ) -> None:
        """Prepare what the parameters name.

        Args:
            node: For the client of the snapshot service.
            bundle: Is noted in each incident.
            values: Returns the parameters in force.
            load_type: Returns the type of the snapshot service.

        Raises:
            NavMonitorError: The snapshot's type is not installed.
        """
        self._values = values
        self._recorder = IncidentRecorder(
            {'name': bundle.name, 'network': bundle.network.spec, 'provenance': bundle.provenance}
        )
        service = values()['snapshot_service']
        self._snapshot = SnapshotCaller(node, service, load_type()) if service else None
        self._wanted = threading.Event()  # a snapshot, by the next heartbeat

    def alert_rose(self, alert: Alert) -> None:
        """Note that the alert rose; quick, since it is called while the alert is being told."""
        self._recorder.alert_rose(alert)
        if self._snapshot is not None:
            self._wanted.set()

    def frame(self, moment: Moment) -> None:
        """Take in a judged frame."""
        self._recorder.frame(moment, self._rules())

    def beat(self, now: float) -> None:
        """Do what is due; called with the heartbeat of the alert."""
        self._recorder.flush(self._rules(), now)
        if self._snapshot is not None and self._wanted.is_set():
            self._wanted.clear()
            self._snapshot.call(now, self._values()['incident_interval'])

    def close(self) -> None:
        """Finish what is being written."""
        self._recorder.close(timeout=2.0)
        if self._snapshot is not None:
            self._snapshot.close()

    def told(self) -> dict[str, int]:
        """Return counters for diagnostics."""
        counters = {
            'incidents_written': self._recorder.written,
            'incidents_failed': self._recorder.failed,
            'incidents_left_out': self._recorder.left_out,
        }
        if self._snapshot is not None:
            counters['snapshots_taken'] = self._snapshot.taken
            counters['snapshots_failed'] = self._snapshot.failed
        return counters

    def _rules(self) -> IncidentRules:
        values = self._values()
        return IncidentRules(
            folder=values['incident_folder'],
            seconds=values['incident_seconds'],
            limit=values['incident_limit'],
            rate=values['incident_rate'],
            interval=values['incident_interval'],
        )
