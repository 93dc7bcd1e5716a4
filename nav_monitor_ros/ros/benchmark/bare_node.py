"""Minimal node: it runs the network on each image and publishes the image's header.

    python -m nav_monitor_ros.ros.benchmark.bare_node --ros-args -p bundle:=DIR

``nav_monitor benchmark node`` measures the monitor against it. The network's input is fixed, so
that no image is decoded, resized or judged, and no verdict is published.
"""

from __future__ import annotations

import sys

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.perception.network.threads import choose_threads
from nav_monitor_ros.ros.declared_parameters import declare
from nav_monitor_ros.ros.qos import reliable
from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS, check_all

REPLY = '~/seen'  # std_msgs/Header of the image


def main() -> int:
    """Run until the process is terminated."""
    rclpy.init()
    node = rclpy.create_node('bare')
    values = check_all(declare(node, PARAMETERS))
    bundle = load_bundle(values['bundle'])
    classifier = load_network(
        bundle, backend=values['backend'], device=values['device'],
        threads=values['torch_threads'] or 1, scores=[],
    )
    if not values['torch_threads']:
        choose_threads(classifier)
    batch = np.random.default_rng(0).random((1, *classifier.input_shape), dtype=np.float32)
    publisher = node.create_publisher(Header, REPLY, reliable(1))

    def receive(message: Image) -> None:
        classifier(batch)
        publisher.publish(message.header)

    node.create_subscription(Image, 'image', receive, reliable(1))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    return 0


if __name__ == '__main__':
    sys.exit(main())
