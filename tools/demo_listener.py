"""A plain ROS node that keeps what camera and monitor say, and the pictures worth showing."""

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
    """A picture that the monitor has drawn."""

    rgb: np.ndarray  # uint8 (H, W, 3)
    segment: int  # position in the record
    frame: Frame | None  # what was said of the image it shows; None where nothing could be judged
    fit: float  # of all pictures of a segment the one with the smallest is kept


class Album:
    """Keeps two overlays and one activation picture of each segment, the most telling ones."""

    def __init__(self, record: Record, segment_seconds: float) -> None:
        """Start empty; pictures are looked up in ``record``."""
        self.first_alerts: dict[int, Picture] = {}  # by segment: the first under an alert
        self.overlays: dict[int, Picture] = {}  # by segment: a typical one
        self.activations: dict[int, Picture] = {}
        self._record = record
        self._middle_ns = segment_seconds * 0.5e9

    def add_overlay(self, stamp_ns: int, rgb: np.ndarray) -> None:
        """Take an overlay in."""
        picture = self._picture(stamp_ns, rgb)
        if picture is None:
            return
        strange = self._record.segments[picture.segment].kind is Kind.STRANGE
        if strange and picture.frame is not None and picture.frame.alert:
            self.first_alerts.setdefault(picture.segment, picture)
        _keep_fitter(self.overlays, picture)

    def add_activations(self, stamp_ns: int, rgb: np.ndarray) -> None:
        """Take a picture of activation maps in."""
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
        # Pictures from the middle show the segment as it mostly is; one whose verdict is not what
        # the segment is about is taken only for want of others.
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
    """Subscribes to what camera and monitor publish, as any other node would."""

    def __init__(self, record: Record, album: Album, kinds: dict[str, Kind]) -> None:
        """Subscribe.

        Args:
            record: Takes up what is heard.
            album: Takes up the pictures.
            kinds: What each of the camera's segments shows, by name.
        """
        super().__init__('nav_monitor_demo')
        self._record = record
        self._album = album
        self._kinds = kinds
        self._camera_is_new = True
        latched = QoSProfile(
            # Deep, so that a status is kept for each image even while a picture is being stored.
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
        """Note that there is no camera from now on."""
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
        # What a camera had still to say when it was killed belongs to the past.
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
