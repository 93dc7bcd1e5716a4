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

from nav_monitor_ros.decision.verdict import Alert, State, Verdict

LEVELS = {
    State.OK: DiagnosticStatus.OK,
    State.SUSPECT: DiagnosticStatus.WARN,
    State.OOD: DiagnosticStatus.ERROR,
    State.INVALID: DiagnosticStatus.ERROR,
}
STALE_REASONS = {'no_image', 'stale_image', 'frozen_image', 'inactive', 'disabled', 'warming_up'}


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
    """Return float32 (N, 5) points, as ``views.volume.cloud`` makes them, as a point cloud."""
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
    """Return the bytes as the one type that rclpy takes without looking at each of them."""
    data = array('B')
    data.frombytes(pixels.data.cast('B'))
    return data


def prediction_message(header: Header, verdict: Verdict) -> Classification:
    """Return the best classes; ``class_id`` is the index in ``~/label_info``."""
    return Classification(
        header=header,
        results=[
            ObjectHypothesis(class_id=str(index), score=probability)
            for index, probability in verdict.top
        ],
    )


def label_info_message(header: Header, class_names: Sequence[str]) -> LabelInfo:
    """Return the names behind the class ids; no confidence threshold hides a class."""
    return LabelInfo(
        header=header,
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in enumerate(class_names)],
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
    """Return ``~/ood_status``: level, reason code and everything the verdict rests on."""
    level = LEVELS[alert.state]
    if alert.reason.value in STALE_REASONS:
        level = DiagnosticStatus.STALE
    values: dict[str, object] = {
        'alert': alert.value, 'state': alert.state.value, 'detail': alert.detail
    }
    if verdict is not None:
        values.update(_verdict_values(verdict))
    values.update(extra)
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
        values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()],
    )


def diagnostics_message(
    header: Header, statuses: Sequence[DiagnosticStatus]
) -> DiagnosticArray:
    """Return several statuses under one header."""
    return DiagnosticArray(header=header, status=list(statuses))


def _verdict_values(verdict: Verdict) -> dict[str, object]:
    values: dict[str, object] = {
        'class': verdict.class_name,
        'class_index': verdict.class_index,
        'confidence': verdict.confidence,
        'p_value': verdict.p_value,
        'p_threshold': verdict.threshold,
        'decisive_score': verdict.decisive,
        'frame_is_ood': verdict.is_ood,
        'fired_score': verdict.fired,
        'why': verdict.why,
    }
    for name, value in verdict.scores.items():
        values[f'score/{name}'] = value.score
        values[f'p_value/{name}'] = value.p_value
    explanation = verdict.explanation
    if explanation is not None:
        differing = np.flatnonzero(explanation.pattern != explanation.nearest)
        values['nearest_pattern_distance'] = explanation.distance
        values['monitored_neurons'] = int(explanation.monitored.sum())
        values['differing_neurons'] = ' '.join(map(str, differing[:32]))
        values['deviating_neurons'] = ' '.join(
            f'{neuron.index}:z={neuron.z:+.1f}' for neuron in explanation.neurons
        )
    return values


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:.6g}' if isinstance(value, float) else str(value)
