"""What ``safety_stop`` can know of its topics: who is not heard, and whether it hears itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from rclpy.duration import Infinite
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    qos_check_compatible,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo

from nav_monitor_ros.errors import NavMonitorError, one_line

if TYPE_CHECKING:
    from rclpy.node import Node

TWIST, TWIST_STAMPED = 'geometry_msgs/msg/Twist', 'geometry_msgs/msg/TwistStamped'
BOOL = 'std_msgs/msg/Bool'
GID_BYTES = 16  # that the middleware's two forms of a publisher's id have in common


@dataclass(frozen=True)
class Neighbours:
    """Who is at the other end of a topic."""

    count: int  # of those that are connected
    trouble: str = ''  # who is not, why, and the remedy


@dataclass(frozen=True)
class WayBack:
    """How commands that leave the gate may come in again."""

    path: str  # topics and nodes, in the order in which a command passes them
    publishers: frozenset[bytes]  # ids of those that may send what the gate has sent
    nodes: tuple[str, ...]  # theirs

    @property
    def last_node(self) -> str:
        """Return the nodes whose commands may be the gate's own, as text."""
        return ', '.join(self.nodes) or 'an unknown node'


def check_distinct(
    node: Node, names: Sequence[str], else_: str = 'the gate would hear itself'
) -> None:
    """Check that no two of the node's topics are one, whatever remapping or namespace did it.

    Args:
        node: Resolves the names.
        names: As they are in the code.
        else_: What would follow if two were one.

    Raises:
        NavMonitorError: Two are one.
    """
    for first, second in combinations(names, 2):
        topic = node.resolve_topic_name(first)
        if topic == node.resolve_topic_name(second):
            raise NavMonitorError(
                f'{first} and {second} are both {topic}: {else_}; remap one of '
                f'them (-r {first}:=ANOTHER_TOPIC)'
            )


def publishers(
    node: Node, topic: str, kind: str, profile: QoSProfile, remedies: Mapping[str, str]
) -> Neighbours:
    """Look at who publishes a topic that the node subscribes to.

    Args:
        node: Subscribes.
        topic: Its resolved name.
        kind: The message's type.
        profile: With which the node subscribes.
        remedies: What to do about another type, by its name; '' for any other.
    """
    found = publishers_of(node, topic)
    return _neighbours(
        topic, kind, found, remedies, 'publishes',
        lambda theirs: qos_check_compatible(theirs, profile),
    )


def subscribers(
    node: Node, topic: str, kind: str, profile: QoSProfile, remedies: Mapping[str, str]
) -> Neighbours:
    """Look at who subscribes to a topic that the node publishes; arguments as of ``publishers``."""
    found = _subscribers(node, topic)
    return _neighbours(
        topic, kind, found, remedies, 'subscribes to',
        lambda theirs: qos_check_compatible(profile, theirs),
    )


def way_back(node: Node, leaving: str, coming: str) -> WayBack | None:
    """Find out whether commands that leave may come in again, through whatever nodes.

    Only topics with velocity commands are followed: a base that answers a command by its odometry
    closes no such loop.

    Args:
        node: The gate.
        leaving: Resolved name of the topic that it publishes.
        coming: Resolved name of the topic that it subscribes to.
    """
    own = node.get_fully_qualified_name()
    paths = {leaving: leaving}  # how a topic is reached
    reached: dict[str, str] = {}  # how a node is
    waiting = [leaving]
    while waiting:
        topic = waiting.pop(0)
        for listener in _subscribers(node, topic):
            name = _node_name(listener)
            if name == own or name in reached:
                continue
            reached[name] = f'{paths[topic]} -> {name}'
            for published in _commands_of(node, listener):
                if published not in paths:
                    paths[published] = f'{reached[name]} -> {published}'
                    waiting.append(published)
    if coming not in paths:
        return None
    back = [info for info in publishers_of(node, coming) if _node_name(info) in reached]
    return WayBack(
        paths[coming],
        frozenset(gid(info.endpoint_gid) for info in back),
        tuple(sorted({_node_name(info) for info in back})),
    )


def without_deadline(profile: QoSProfile) -> QoSProfile:
    """Say what a profile that names neither deadline nor lease offers: none, not an unknown one."""
    profile.deadline = profile.liveliness_lease_duration = Infinite
    profile.liveliness = LivelinessPolicy.AUTOMATIC
    profile.durability = DurabilityPolicy.VOLATILE
    return profile


def gid(data: Sequence[int] | bytes) -> bytes:
    """Return a publisher's id in one form."""
    return bytes(data)[:GID_BYTES]


def _neighbours(
    topic: str,
    kind: str,
    found: Sequence[TopicEndpointInfo],
    remedies: Mapping[str, str],
    does: str,
    compatibility: Callable[[QoSProfile], tuple[QoSCompatibility, str]],
) -> Neighbours:
    ours = [info for info in found if info.topic_type == kind]
    troubles = []
    for other in sorted({info.topic_type for info in found} - {kind}):
        who = _names(info for info in found if info.topic_type == other)
        remedy = remedies.get(other, remedies[''])
        troubles.append(f'{who} {does} {topic} as {other}, not {kind}: {remedy}')
    connected = 0
    for info in ours:
        compatible, why = compatibility(info.qos_profile)
        if compatible == QoSCompatibility.ERROR:
            troubles.append(
                f'{_node_name(info)} {does} {topic} with another quality of service '
                f'({one_line(why).strip("; ")}): change it there'
            )
        else:
            connected += 1
    return Neighbours(connected, '; '.join(troubles))


# The node's own methods of these names apply its remappings to the topic, once more: with
# cmd_vel:=/cmd_vel_safe they would look at /cmd_vel_safe where /cmd_vel is meant.


def publishers_of(node: Node, topic: str) -> list[TopicEndpointInfo]:
    """Return who publishes a topic, given its resolved name.

    rclpy's own function would apply the node's remappings to it a second time.
    """
    with node.handle:
        found = rclpy_implementation.rclpy_get_publishers_info_by_topic(
            node.handle, topic, False
        )
    return [TopicEndpointInfo(**info) for info in found]


def _subscribers(node: Node, topic: str) -> list[TopicEndpointInfo]:
    with node.handle:
        found = rclpy_implementation.rclpy_get_subscriptions_info_by_topic(
            node.handle, topic, False
        )
    return [TopicEndpointInfo(**info) for info in found]


def _commands_of(node: Node, of: TopicEndpointInfo) -> list[str]:
    """Return the topics on which a node publishes velocity commands."""
    try:
        topics = node.get_publisher_names_and_types_by_node(of.node_name, of.node_namespace)
    except rclpy_implementation.RCLError:
        return []  # gone meanwhile, not yet known by name, or no node of ROS
    return [name for name, types in topics if {TWIST, TWIST_STAMPED} & set(types)]


def _node_name(info: TopicEndpointInfo) -> str:
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


def _names(found: Iterable[TopicEndpointInfo]) -> str:
    return ', '.join(sorted({_node_name(info) for info in found}))
