"""Plain ROS node that records a drive: the robot's camera and the monitor's verdicts."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from drive_record import DriveRecord, Sight
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32, Header


class DriveListener(Node):
    """Node that subscribes to robot, monitor and gate, as any other node would."""

    def __init__(self, record: DriveRecord) -> None:
        """Subscribe, and record every message."""
        super().__init__('nav_monitor_drive')
        self._record = record
        self._start_ns: int | None = None
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        newest = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        robot = '/simulated_robot'
        self.create_subscription(Image, 'image', self._see, newest)
        self.create_subscription(Image, 'nav_monitor/overlay', self._see_overlay, newest)
        self.create_subscription(
            DiagnosticArray, 'nav_monitor/ood_status', self._hear_status, latched)
        self.create_subscription(PoseStamped, f'{robot}/pose', self._hear_pose, newest)
        self.create_subscription(Float32, f'{robot}/gap', self._hear_gap, newest)
        self.create_subscription(Bool, f'{robot}/touched', self._hear_touched, latched)
        self.create_subscription(Twist, 'cmd_vel', self._hear_velocity, newest)

    def _see(self, message: Image) -> None:
        self._record.images[_nanoseconds(message.header)] = _pixels(message)

    def _see_overlay(self, message: Image) -> None:
        self._record.overlays[_nanoseconds(message.header)] = _pixels(message)

    def _hear_status(self, message: DiagnosticArray) -> None:
        status, record = message.status[0], self._record
        values = {pair.key: pair.value for pair in status.values}
        record.reason = status.message
        if 'p_value' not in values:
            return
        record.p_threshold = float(values['p_threshold'])
        stamp = _nanoseconds(message.header)
        if self._start_ns is None:
            self._start_ns = stamp
        record.sights.append(Sight(
            (stamp - self._start_ns) / 1e9, stamp, values['class'], float(values['p_value']),
            values['frame_is_ood'] == 'true', values['alert'] == 'true', status.message,
            record.x, record.y, record.speed, record.gap,
        ))

    def _hear_pose(self, message: PoseStamped) -> None:
        self._record.x, self._record.y = message.pose.position.x, message.pose.position.y

    def _hear_gap(self, message: Float32) -> None:
        self._record.gap = message.data

    def _hear_touched(self, message: Bool) -> None:
        self._record.touched |= message.data

    def _hear_velocity(self, message: Twist) -> None:
        self._record.speed = message.linear.x


def _nanoseconds(header: Header) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def _pixels(message: Image) -> np.ndarray:
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
