"""Records of a raised alert: images with their verdicts, and a rosbag2 snapshot."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.exceptions import NameValidationException
from rclpy.lifecycle import LifecycleNode

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.runtime.incident_frames import IncidentRules, RecordedFrame
from nav_monitor_ros.runtime.incidents import IncidentRecorder


def snapshot_type() -> Any:
    """Return the type of rosbag2's snapshot service.

    Raises:
        NavMonitorError: The package of the type is not installed.
    """
    try:
        return importlib.import_module('rosbag2_interfaces.srv').Snapshot
    except ImportError:
        raise NavMonitorError(
            'snapshot_service needs the package rosbag2_interfaces; install it (apt install '
            'ros-$ROS_DISTRO-rosbag2-interfaces) or leave the parameter empty'
        ) from None


class SnapshotCaller:
    """Client that asks a rosbag2 recorder to write its buffer, without waiting for the response."""

    def __init__(self, node: LifecycleNode, log: QueuedLog, service: str, kind: Any) -> None:
        """Create the client.

        Args:
            node: Node that owns the client.
            log: Log for failures.
            service: Name of the service.
            kind: Type of the service, with an empty request and ``success`` in the response.

        Raises:
            NavMonitorError: The name is not a valid name of a service.
        """
        self._node, self._log, self._service, self._kind = node, log, service, kind
        try:
            self._client: Any = node.create_client(kind, service)
        except (NameValidationException, ValueError) as error:
            raise NavMonitorError(
                f"parameter snapshot_service is '{service}', which is no name of a service: "
                f'{one_line(error)}'
            ) from error
        self._last = -math.inf
        self._failure = ''
        self.taken = 0
        self.failed = 0

    def call(self, now: float, interval: float) -> None:
        """Request a snapshot, unless one was requested in the last ``interval`` seconds."""
        if now - self._last < interval:
            return
        self._last = now
        if not self._client.service_is_ready():
            self._fail(f'no snapshot: the service {self._service} is not available')
            return
        self._client.call_async(self._kind.Request()).add_done_callback(self._answered)

    def close(self) -> None:
        """Destroy the client."""
        self._node.destroy_client(self._client)

    def _answered(self, future: Any) -> None:
        if future.result() is not None and future.result().success:
            self.taken += 1
            self._failure = ''
        else:
            self._fail(f'no snapshot: {self._service} reported a failure')

    def _fail(self, failure: str) -> None:
        self.failed += 1
        if failure != self._failure:  # once, not for every alert
            self._failure = failure
            self._log.warning(failure)


class Snapshots:
    """Snapshots of a rosbag2 recorder, taken when the alert of any camera rises."""

    def __init__(
        self,
        node: LifecycleNode,
        log: QueuedLog,
        values: Callable[[], Mapping[str, Any]],
        load_type: Callable[[], Any] = snapshot_type,
    ) -> None:
        """Create the client if the parameters name a service.

        Args:
            node: Node that owns the client of the snapshot service.
            log: Log for failures.
            values: Function that returns the current parameters.
            load_type: Function that returns the type of the snapshot service.

        Raises:
            NavMonitorError: The type of the service is not installed, or its name is invalid.
        """
        self._values = values
        service = values()['snapshot_service']
        self._caller = SnapshotCaller(node, log, service, load_type()) if service else None
        self._wanted = threading.Event()

    def want(self) -> None:
        """Request a snapshot at the next heartbeat; returns immediately."""
        self._wanted.set()

    def beat(self, now: float) -> None:
        """Call the service if a snapshot was requested; called at each heartbeat of the alert."""
        if self._caller is not None and self._wanted.is_set():
            self._wanted.clear()
            self._caller.call(now, self._values()['incident_interval'])

    def close(self) -> None:
        """Destroy the client."""
        if self._caller is not None:
            self._caller.close()

    def counters(self) -> dict[str, int]:
        """Return counters for diagnostics."""
        if self._caller is None:
            return {}
        return {'snapshots_taken': self._caller.taken, 'snapshots_failed': self._caller.failed}


class Incidents:
    """Records of one camera's raised alerts, according to the parameters."""

    def __init__(
        self,
        bundle: Bundle,
        values: Callable[[], Mapping[str, Any]],
        snapshots: Snapshots,
        camera: str = '',
        cameras: int = 1,
    ) -> None:
        """Create the recorder.

        Args:
            bundle: Bundle to describe in each incident.
            values: Function that returns the current parameters.
            snapshots: Snapshots, which are requested whenever this alert is raised.
            camera: Name of the camera, and of its subfolder of the incident folder; '' if the node
                has only one camera.
            cameras: Number of cameras that share the memory and disk space for incidents.
        """
        self._values, self._snapshots = values, snapshots
        self._camera, self._cameras = camera, cameras
        self._recorder = IncidentRecorder(
            {'name': bundle.name, 'network': bundle.network.spec, 'provenance': bundle.provenance}
        )

    def alert_rose(self, alert: Alert) -> None:
        """Handle a raised alert; fast, because the lock of the alerts is held."""
        self._recorder.alert_rose(alert)
        self._snapshots.want()

    def frame(self, moment: RecordedFrame) -> None:
        """Add a judged frame."""
        self._recorder.frame(moment, self._rules())

    def beat(self, now: float) -> None:
        """Write incidents that are due; called at each heartbeat of the alert."""
        self._recorder.flush(self._rules(), now)

    def close(self) -> None:
        """Finish the incident that is being written."""
        self._recorder.close(timeout=2.0)

    def counters(self) -> dict[str, int]:
        """Return counters for diagnostics."""
        return {
            'incidents_written': self._recorder.written,
            'incidents_failed': self._recorder.failed,
            'incidents_left_out': self._recorder.left_out,
        }

    def _rules(self) -> IncidentRules:
        values = self._values()
        folder = values['incident_folder']
        return IncidentRules(
            folder=f'{folder}/{self._camera}' if folder and self._camera else folder,
            seconds=values['incident_seconds'],
            limit=values['incident_limit'] / self._cameras,
            rate=values['incident_rate'],
            interval=values['incident_interval'],
            share=1 / self._cameras,
        )
