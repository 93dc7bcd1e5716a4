"""Endpoints that are connected to ``safety_stop``, and the reasons why others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.duration import Infinite
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    qos_check_compatible,
)

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.ros.topic_endpoints import node_name, publishers_of, subscribers_of

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo

TWIST, TWIST_STAMPED = 'geometry_msgs/msg/Twist', 'geometry_msgs/msg/TwistStamped'
BOOL = 'std_msgs/msg/Bool'


@dataclass(frozen=True)
class MatchedEndpoints:
    """Endpoints on the other side of a topic."""

    count: int  # number of connected endpoints
    trouble: str = ''  # endpoints that are not connected, with reason and remedy


def match_publishers(
    node: Node, topic: str, kind: str, profile: QoSProfile, remedies: Mapping[str, str]
) -> MatchedEndpoints:
    """Match the publishers of a topic with the node's subscription.

    Args:
        node: Node that subscribes.
        topic: Resolved name of the topic.
        kind: Type of the messages.
        profile: QoS profile of the subscription.
        remedies: Remedies for endpoints of another type, by that type; '' for any other type.
    """
    return _match(
        topic, kind, publishers_of(node, topic), remedies, 'publishes',
        lambda theirs: qos_check_compatible(theirs, profile),
    )


def match_subscribers(
    node: Node, topic: str, kind: str, profile: QoSProfile, remedies: Mapping[str, str]
) -> MatchedEndpoints:
    """Match the subscriptions to a topic with the node's publisher.

    Args:
        node: Node that publishes.
        topic: Resolved name of the topic.
        kind: Type of the messages.
        profile: QoS profile of the publisher.
        remedies: As in ``match_publishers``.
    """
    return _match(
        topic, kind, subscribers_of(node, topic), remedies, 'subscribes to',
        lambda theirs: qos_check_compatible(profile, theirs),
    )


def without_deadline(profile: QoSProfile) -> QoSProfile:
    """Complete a profile without deadline and lease with the values that it offers: none."""
    profile.deadline = profile.liveliness_lease_duration = Infinite
    profile.liveliness = LivelinessPolicy.AUTOMATIC
    profile.durability = DurabilityPolicy.VOLATILE
    return profile


def _match(
    topic: str,
    kind: str,
    found: Sequence[TopicEndpointInfo],
    remedies: Mapping[str, str],
    verb: str,
    compatibility: Callable[[QoSProfile], tuple[QoSCompatibility, str]],
) -> MatchedEndpoints:
    troubles = []
    for other in sorted({info.topic_type for info in found} - {kind}):
        nodes = _names(info for info in found if info.topic_type == other)
        remedy = remedies.get(other, remedies[''])
        troubles.append(f'{nodes} {verb} {topic} as {other}, not {kind}: {remedy}')
    connected = 0
    for info in found:
        if info.topic_type != kind:
            continue
        compatible, why = compatibility(info.qos_profile)
        if compatible == QoSCompatibility.ERROR:
            troubles.append(
                f'{node_name(info)} {verb} {topic} with an incompatible QoS '
                f'({one_line(why).strip("; ")}): change it in that node'
            )
        else:
            connected += 1
    return MatchedEndpoints(connected, '; '.join(troubles))


def _names(found: Iterable[TopicEndpointInfo]) -> str:
    return ', '.join(sorted({node_name(info) for info in found}))
