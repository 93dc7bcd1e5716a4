"""Remedies for stamps that disagree with the node's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node


def clock_remedy(node: Node) -> str:
    """Return a remedy for image stamps that differ from a node's clock."""
    if not node.get_parameter('use_sim_time').value:
        return "set the camera's clock, use_sim_time for a bag, or stamp_tolerance to 0"
    if node.get_clock().now().nanoseconds == 0:
        return (
            'use_sim_time is set, but nothing publishes /clock: play the bag with --clock, start '
            'the simulator, or set use_sim_time to false'
        )
    return (
        'use_sim_time is set, so the clock is /clock: stamp the images with it, set '
        'use_sim_time to false, or stamp_tolerance to 0'
    )
