"""Verdicts, alerts and pictures as ROS messages."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass

from nav_monitor_ros.decision.alert import ood_status
from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.verdict import Verdict

LEVELS = {state: bytes([level]) for state, level in ood_status.LEVELS.items()}


def image_message(header: Header, rgb: np.ndarray) -> Image:
    """Return uint8 (H, W, 3) RGB pixels as an rgb8 image."""
    height, width = rgb.shape[:2]
    message = Image(
        header=header, height=height, width=width, encoding='rgb8', is_bigendian=0, step=3 * width
    )
    message.data = byte_array(np.ascontiguousarray(rgb))
    return message


def compressed_message(header: Header, rgb: np.ndarray) -> CompressedImage:
    """Return uint8 (H, W, 3) RGB pixels as a JPEG in image_transport's form."""
    _, encoded = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    message = CompressedImage(header=header, format='rgb8; jpeg compressed bgr8')
    message.data = byte_array(encoded)
    return message


def cloud_message(header: Header, points: np.ndarray) -> PointCloud2:
    """Return float32 (N, 5) points, as ``views.volume.cloud`` returns them, as a point cloud."""
    fields = [
        PointField(name=name, offset=4 * number, datatype=PointField.FLOAT32, count=1)
        for number, name in enumerate(('x', 'y', 'z', 'intensity', 'rgb'))
    ]
    message = PointCloud2(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False,
        point_step=20, row_step=20 * len(points), is_dense=True,
    )
    if len(points):
        message.data = byte_array(np.ascontiguousarray(points))
    return message


def byte_array(pixels: np.ndarray) -> array:
    """Return the bytes as the only type that rclpy accepts without checking each element."""
    data = array('B')
    data.frombytes(pixels.data.cast('B'))
    return data


def prediction_message(header: Header, verdict: Verdict) -> Classification:
    """Return the most probable classes; ``class_id`` is the index in ``~/label_info``."""
    return Classification(
        header=header,
        results=[
            ObjectHypothesis(class_id=str(index), score=probability)
            for index, probability in verdict.top
        ],
    )


def label_info_message(header: Header, class_names: Sequence[str]) -> LabelInfo:
    """Return the names of the class ids, as many as fit; the threshold of 0 hides no class."""
    named = enumerate(class_names[: ood_status.MOST_LABELS])
    return LabelInfo(
        header=header,
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in named],
        threshold=0.0,
    )


def status_message(
    header: Header,
    name: str,
    hardware_id: str,
    alert: Alert,
    verdict: Verdict | None,
    extra: Mapping[str, object],
) -> DiagnosticArray:
    """Return ``~/ood_status``: level, reason code and all values behind the verdict."""
    level = bytes([ood_status.status_level(alert)])
    values = ood_status.status_values(alert, verdict, extra)
    return diagnostics_message(
        header, [diagnostic(name, hardware_id, level, alert.reason.value, values)]
    )


def diagnostic(
    name: str, hardware_id: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """Return one diagnostic status."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[
            KeyValue(key=key, value=ood_status.value_text(value)) for key, value in values.items()
        ],
    )


def parameters_status(unknown: Sequence[str]) -> tuple[bytes, str, dict[str, object]]:
    """Return level, message and values of the status for parameters without effect.

    Args:
        unknown: One line per parameter; at least one.
    """
    more = f' (and {len(unknown) - 1} more)' if len(unknown) > 1 else ''
    return DiagnosticStatus.WARN, f'{unknown[0]}{more}', {'unknown': '; '.join(unknown)}


def diagnostics_message(
    header: Header, statuses: Sequence[DiagnosticStatus]
) -> DiagnosticArray:
    """Return several statuses under one header."""
    return DiagnosticArray(header=header, status=list(statuses))
