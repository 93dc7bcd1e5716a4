"""Publishers and subscriptions of a topic, as the ROS graph reports them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.topic_endpoint_info import TopicEndpointInfo

from nav_monitor_ros.errors import NavMonitorError

if TYPE_CHECKING:
    from rclpy.node import Node

GID_BYTES = 16  # bytes that the middleware's two forms of an endpoint's GID have in common


def check_distinct(
    node: Node,
    names: Sequence[str],
    consequence: str = 'safety_stop would receive its own messages',
) -> None:
    """Check that no two of the node's topics are the same after remapping.

    Args:
        node: Node that resolves the names.
        names: Names of the topics in the code.
        consequence: Consequence of two equal topics, for the message.

    Raises:
        NavMonitorError: Two names resolve to the same topic.
    """
    for first, second in combinations(names, 2):
        topic = node.resolve_topic_name(first)
        if topic == node.resolve_topic_name(second):
            raise NavMonitorError(
                f'{first} and {second} are both {topic}: {consequence}; remap one of '
                f'them (-r {first}:=ANOTHER_TOPIC)'
            )


# The node's own methods of these names apply its remappings to the topic again: with
# cmd_vel:=/cmd_vel_safe they would use /cmd_vel_safe instead of /cmd_vel.


def publishers_of(node: Node, topic: str) -> list[TopicEndpointInfo]:
    """Return the publishers of a topic, given its resolved name."""
    with node.handle:
        found = rclpy_implementation.rclpy_get_publishers_info_by_topic(
            node.handle, topic, False
        )
    return [TopicEndpointInfo(**info) for info in found]


def subscribers_of(node: Node, topic: str) -> list[TopicEndpointInfo]:
    """Return the subscriptions to a topic, given its resolved name."""
    with node.handle:
        found = rclpy_implementation.rclpy_get_subscriptions_info_by_topic(
            node.handle, topic, False
        )
    return [TopicEndpointInfo(**info) for info in found]


def node_name(info: TopicEndpointInfo) -> str:
    """Return the full name of the node that owns an endpoint."""
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


def gid(data: Sequence[int] | bytes) -> bytes:
    """Return an endpoint's GID in the same form, from the graph or from a message's info."""
    return bytes(data)[:GID_BYTES]
