"""Plain ROS node that records the messages of camera and monitor and selects pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from demo_record import Frame, Kind, Record, Segment
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Header


@dataclass(frozen=True)
class Picture:
    """Picture drawn by the monitor."""

    rgb: np.ndarray  # uint8 (H, W, 3)
    segment: int  # position in the record
    frame: Frame | None  # verdict on the image in it; None if that was not judged
    fit: float  # smaller is better; the best picture of a segment is kept


class Album:
    """Collection of the most informative pictures: two overlays and one of maps per segment."""

    def __init__(self, record: Record, segment_seconds: float) -> None:
        """Start empty; pictures are looked up in ``record``."""
        self.first_alerts: dict[int, Picture] = {}  # by segment: first picture during an alert
        self.overlays: dict[int, Picture] = {}  # by segment: typical picture
        self.activations: dict[int, Picture] = {}
        self._record = record
        self._middle_ns = segment_seconds * 0.5e9

    def add_overlay(self, stamp_ns: int, rgb: np.ndarray) -> None:
        """Add an overlay."""
        picture = self._picture(stamp_ns, rgb)
        if picture is None:
            return
        strange = self._record.segments[picture.segment].kind is Kind.STRANGE
        if strange and picture.frame is not None and picture.frame.alert:
            self.first_alerts.setdefault(picture.segment, picture)
        _keep_fitter(self.overlays, picture)

    def add_activations(self, stamp_ns: int, rgb: np.ndarray) -> None:
        """Add a picture of activation maps."""
        picture = self._picture(stamp_ns, rgb)
        if picture is not None:
            _keep_fitter(self.activations, picture)

    def _picture(self, stamp_ns: int, rgb: np.ndarray) -> Picture | None:
        number = self._record.segment_number(stamp_ns)
        if number < 0:
            return None
        segment = self._record.segments[number]
        recent = (f for f in reversed(self._record.frames[-60:]) if f.stamp_ns == stamp_ns)
        frame = next(recent, None)
        # Pictures from the middle of a segment are the most typical; one whose verdict does not
        # match the segment's kind is used only if there is no other.
        fit = abs(stamp_ns - segment.start_ns - self._middle_ns)
        if segment.kind is Kind.SILENT:
            typical = frame is None
        else:
            typical = frame is not None and frame.alert == frame.flagged == (
                segment.kind is Kind.STRANGE
            )
        return Picture(rgb, number, frame, fit if typical else fit + 1e12)


def _keep_fitter(pictures: dict[int, Picture], picture: Picture) -> None:
    kept = pictures.get(picture.segment)
    if kept is None or picture.fit < kept.fit:
        pictures[picture.segment] = picture


class Listener(Node):
    """Node that subscribes to the topics of camera and monitor, as any other node would."""

    def __init__(self, record: Record, album: Album, kinds: dict[str, Kind]) -> None:
        """Subscribe.

        Args:
            record: Record for the messages.
            album: Collection for the pictures.
            kinds: Kind of each of the camera's segments, by name.
        """
        super().__init__('nav_monitor_demo')
        self._record = record
        self._album = album
        self._kinds = kinds
        self._camera_is_new = True
        latched = QoSProfile(
            # The queue is deep, so that no status is lost while a picture is being stored.
            depth=100,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        newest = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(Bool, 'ood_alert', self._hear_alert, latched)
        self.create_subscription(
            DiagnosticArray, 'nav_monitor/ood_status', self._hear_status, latched
        )
        self.create_subscription(Header, 'camera/segment', self._hear_segment, latched)
        self.create_subscription(Image, 'nav_monitor/overlay', self._see_overlay, newest)
        self.create_subscription(Image, 'nav_monitor/activations', self._see_activations, newest)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._hear_diagnostics, 10)

    def camera_died(self, name: str) -> None:
        """Begin a segment without a camera."""
        self._record.segments.append(Segment(name, Kind.SILENT, time.time_ns()))
        self._camera_is_new = True

    def _hear_alert(self, message: Bool) -> None:
        self._record.hear_alert(message.data, time.time_ns())

    def _hear_segment(self, message: Header) -> None:
        segment = Segment(
            message.frame_id,
            self._kinds[message.frame_id],
            _nanoseconds(message),
            starts_camera=self._camera_is_new,
        )
        # A late message of a killed camera is ignored.
        if not self._record.segments or segment.start_ns > self._record.segments[-1].start_ns:
            self._record.segments.append(segment)
            self._camera_is_new = False

    def _hear_status(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        values = _values(status)
        record = self._record
        record.reason, record.state = status.message, values['state']
        record.detail = values['detail']
        if 'p_value' not in values:
            return
        record.p_value_threshold = float(values['p_threshold'])
        record.frames.append(
            Frame(
                stamp_ns=_nanoseconds(message.header),
                class_name=values['class'],
                p_value=float(values['p_value']),
                flagged=values['frame_is_ood'] == 'true',
                state=values['state'],
                reason=status.message,
                alert=values['alert'] == 'true',
                latency_ms=float(values['latency_ms']),
            )
        )

    def _hear_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = _values(status)
            if status.name.endswith(': input') and 'received' in values:
                self._record.received = int(values['received'])
                self._record.dropped = int(values['dropped_unjudged'])
                self._record.lost = int(values['lost_in_transport'])
            elif status.name.endswith(': inference') and 'judged' in values:
                self._record.judged = int(values['judged'])

    def _see_overlay(self, message: Image) -> None:
        self._album.add_overlay(_nanoseconds(message.header), _pixels(message))

    def _see_activations(self, message: Image) -> None:
        self._album.add_activations(_nanoseconds(message.header), _pixels(message))


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def _nanoseconds(header: Header) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def _pixels(message: Image) -> np.ndarray:
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
