"""Subscriber in a separate process, for tests to stop: ``listener_process.py TYPE TOPIC ...``.

Prints a line once it has received a message on every topic.
"""

import importlib
import sys

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
KEPT = QoSProfile(
    depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def main():
    rclpy.init()
    node = rclpy.create_node('stopped_listener')
    missing = set(sys.argv[2::2])

    def heard(topic):
        if topic in missing:
            missing.discard(topic)
            if not missing:
                print('heard', flush=True)

    for kind, topic in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        package, _, name = kind.partition('/')
        message = getattr(importlib.import_module(f'{package}.msg'), name)
        # The log is kept for late subscribers; there may be no further line.
        qos = KEPT if topic == '/rosout' else RELIABLE
        node.create_subscription(message, topic, lambda _, topic=topic: heard(topic), qos)
    rclpy.spin(node)


if __name__ == '__main__':
    main()
