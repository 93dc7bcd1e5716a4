"""Loops in the ROS graph through which commands of ``safety_stop`` may return to it."""

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

PARTICIPANT_BYTES = 12  # of an RTPS GID; the rest identifies an endpoint of the participant
UNKNOWN_NODE = '_NODE_NAME_UNKNOWN_'  # rmw_dds_common's name until discovery has the real one
# Middlewares with RTPS GIDs. With another one, nodes are distinguished by name only.
RTPS = ('fastrtps', 'cyclonedds', 'connextdds')


@dataclass(frozen=True)
class CommandFeedback:
    """Path on which commands that were sent may be received again."""

    path: str  # topics and nodes, in the order in which a command passes them
    publishers: frozenset[bytes]  # GIDs of publishers that may send commands of safety_stop
    nodes: tuple[str, ...]  # nodes of these publishers

    @property
    def last_node(self) -> str:
        """Nodes whose commands may be safety_stop's own, as text."""
        return ', '.join(self.nodes) or 'an unknown node'


@dataclass(frozen=True)
class _NodeKey:
    """Identity of a node in the graph; nodes of two processes may have the same name."""

    participant: bytes
    name: str


def find_feedback(node: Node, sent: str, received: str) -> CommandFeedback | None:
    """Find a path on which commands that the node sends may return to it, through any nodes.

    Only topics with velocity commands are followed: a base that responds to a command with its
    odometry does not close such a loop. The search need not exclude the node itself: it can only
    be reached through the topic that it receives, and then the loop has already been found.

    Args:
        node: Node that publishes and subscribes.
        sent: Resolved name of the topic that it publishes.
        received: Resolved name of the topic that it subscribes to.

    Returns:
        Shortest such path; None if there is none.
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
    if info.node_name == UNKNOWN_NODE:  # not discovered yet: it may be any node
        return _NodeKey(bytes(info.endpoint_gid), node_name(info))
    is_rtps = any(name in get_rmw_implementation_identifier() for name in RTPS)
    participant = bytes(info.endpoint_gid)[:PARTICIPANT_BYTES] if is_rtps else b''
    return _NodeKey(participant, node_name(info))
