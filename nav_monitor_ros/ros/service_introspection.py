"""Service introspection: events of services for ``ros2 service echo``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rclpy.qos import qos_profile_services_default

from nav_monitor_ros.ros.process.log import QueuedLog

if TYPE_CHECKING:
    from rclpy.node import Node

try:
    from rclpy.service_introspection import ServiceIntrospectionState as _State
except ImportError:  # Humble
    _SUPPORTED = False
else:
    _SUPPORTED = True


def introspect(node: Node, services: Iterable[Any], state: str, log: QueuedLog) -> None:
    """Publish the events of services, or stop doing so.

    Args:
        node: Node whose clock stamps the events.
        services: Services of the node.
        state: ``disabled``, ``metadata`` or ``contents``, as in the tutorials of ROS 2.
        log: Log for a warning if this version of ROS cannot do it.
    """
    if not _SUPPORTED:
        if state != 'disabled':
            log.warning(
                f'service_introspection is {state}, but this version of ROS 2 has no service '
                'introspection'
            )
        return
    states = {
        'disabled': _State.OFF, 'metadata': _State.METADATA, 'contents': _State.CONTENTS,
    }
    for service in services:
        service.configure_introspection(
            node.get_clock(), qos_profile_services_default, states[state]
        )
