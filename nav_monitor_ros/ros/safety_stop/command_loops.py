"""Loops in the ROS graph through which the commands of ``safety_stop`` may return to it."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.utilities import get_rmw_implementation_identifier

from nav_monitor_ros.ros.safety_stop.qos_matching import TWIST, TWIST_STAMPED
from nav_monitor_ros.ros.topic_endpoints import gid, node_name, publishers_of, subscribers_of

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.topic_endpoint_info import TopicEndpointInfo

PARTICIPANT_BYTES = 12  # of a GID by RTPS; the rest tells the participant's endpoints apart
# Middlewares whose GIDs are those of RTPS. By another one, nodes are told apart by name alone.
RTPS = ('fastrtps', 'cyclonedds', 'connextdds')


@dataclass(frozen=True)
class CommandFeedback:
    """A path by which commands that were sent may be received again."""

    path: str  # topics and nodes, in the order in which a command passes them
    publishers: frozenset[bytes]  # GIDs of those that may send what safety_stop has sent
    nodes: tuple[str, ...]  # theirs

    @property
    def last_node(self) -> str:
        """Return the nodes whose commands may be safety_stop's own, as text."""
        return ', '.join(self.nodes) or 'an unknown node'


@dataclass(frozen=True)
class _NodeKey:
    """A node as the graph tells it apart: two processes may give theirs the same name."""

    participant: bytes
    name: str


def find_feedback(node: Node, sent: str, received: str) -> CommandFeedback | None:
    """Find a path by which commands that the node sends may return to it, through any nodes.

    Only topics with velocity commands are followed: a base that answers a command by its odometry
    closes no such loop. The search need not leave out the node itself: it is reached by what it
    receives only, and then the loop is found already.

    Args:
        node: Publishes and subscribes.
        sent: Resolved name of the topic that it publishes.
        received: Resolved name of the topic that it subscribes to.
    """
    published = _command_topics(node)
    topic_paths = {sent: sent}
    node_paths: dict[_NodeKey, str] = {}
    waiting = deque([sent])
    while waiting:
        topic = waiting.popleft()
        for subscriber in subscribers_of(node, topic):
            key = _key(subscriber)
            if key in node_paths:
                continue
            node_paths[key] = f'{topic_paths[topic]} -> {key.name}'
            for next_topic in published[key]:
                if next_topic not in topic_paths:
                    topic_paths[next_topic] = f'{node_paths[key]} -> {next_topic}'
                    waiting.append(next_topic)
    if received not in topic_paths:
        return None
    returning = [info for info in publishers_of(node, received) if _key(info) in node_paths]
    return CommandFeedback(
        topic_paths[received],
        frozenset(gid(info.endpoint_gid) for info in returning),
        tuple(sorted({node_name(info) for info in returning})),
    )


def _command_topics(node: Node) -> defaultdict[_NodeKey, list[str]]:
    """Return the topics on which each node publishes velocity commands."""
    published: defaultdict[_NodeKey, list[str]] = defaultdict(list)
    for topic, types in node.get_topic_names_and_types():
        if {TWIST, TWIST_STAMPED} & set(types):
            for info in publishers_of(node, topic):
                published[_key(info)].append(topic)
    return published


def _key(info: TopicEndpointInfo) -> _NodeKey:
    is_rtps = any(name in get_rmw_implementation_identifier() for name in RTPS)
    participant = bytes(info.endpoint_gid)[:PARTICIPANT_BYTES] if is_rtps else b''
    return _NodeKey(participant, node_name(info))
