"""Reports about a published alert: ``~/ood_status`` and a log line."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.ros.messages import status_message
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import latched, unattended


class AlertStatus:
    """Publisher of ``~/ood_status``, of one camera or of the combined alert."""

    def __init__(self, node: LifecycleNode, camera: str = '') -> None:
        """Create the publisher.

        Args:
            node: Node that owns the publisher.
            camera: Name of the camera; '' for the only camera and for the combined alert.
        """
        self._node = node
        self._name = ': '.join(filter(None, (node.get_fully_qualified_name(), camera, 'ood')))
        self._frame_id = ''  # of the last image
        self._publisher = node.create_publisher(
            DiagnosticArray, f'~/{camera}/ood_status' if camera else '~/ood_status', latched(),
            **unattended(),
        )

    def publish(
        self,
        alert: Alert,
        values: Mapping[str, object],
        header: Header | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """Publish a status.

        Args:
            alert: Published alert.
            values: Further values.
            header: Header of the image, if the status concerns one; otherwise the stamp is the
                node's time.
            verdict: Verdict on the image, if it could be judged.
        """
        if header is None:
            header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._frame_id = header.frame_id
        self._publisher.publish(
            status_message(header, self._name, header.frame_id, alert, verdict, values)
        )


def log_change(
    log: QueuedLog, topic: str, before: Alert | None, alert: Alert, known: str = ''
) -> None:
    """Log that an alert has changed.

    Args:
        log: Log for the line.
        topic: Topic of the alert.
        before: Previous alert; None at the start.
        alert: New alert, with another value or reason.
        known: Part of the detail that is logged separately, and therefore omitted.
    """
    detail = alert.detail.removesuffix(f'; {known}')
    if alert.value:
        severity = logging.WARNING
    elif before is not None and before.value:
        severity = logging.INFO
    else:  # changes to suspect and back, which occur whenever single frames are flagged
        severity = logging.DEBUG
    because = f'{alert.reason.value}: {detail}' if detail else alert.reason.value
    log.log(severity, f'{topic} {alert.value}: {because}')
