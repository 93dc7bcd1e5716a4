"""``/diagnostics``: the state of each camera and of the model, once per second."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from nav_monitor_ros.decision.alert.reason import Alert, Reason
from nav_monitor_ros.ros.bond import BondState
from nav_monitor_ros.ros.messages import (
    LEVELS,
    diagnostic,
    diagnostics_message,
    parameters_status,
)
from nav_monitor_ros.ros.monitor.image_subscription import REMEDY, SILENCE
from nav_monitor_ros.ros.qos import reliable

if TYPE_CHECKING:
    from nav_monitor_ros.ros.monitor.camera import Camera
    from nav_monitor_ros.runtime.monitor import Monitor

PERIOD = 1.0  # seconds
Status = tuple[bytes, str, Mapping[str, object]]  # level, message, values


class Diagnostics:
    """Publisher of the node's diagnostics. Used by the executor's thread only."""

    def __init__(
        self,
        node: LifecycleNode,
        cameras: Sequence[Camera],
        unknown_parameters: Sequence[str] = (),
    ) -> None:
        """Create the publisher.

        Args:
            node: Node that owns the publisher.
            cameras: Cameras to report on.
            unknown_parameters: A line for each parameter without effect.
        """
        self._node = node
        self._unknown = unknown_parameters
        self._cameras = cameras
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', reliable(10))
        self._received = dict.fromkeys(cameras, 0)  # at the last publication
        self._lost = dict.fromkeys(cameras, 0)

    def publish(
        self,
        alert: Alert,
        monitor: Monitor | None,
        fault: str,
        bundle: str,
        bond: BondState | None,
        counters: Mapping[str, object],
        lost_input: str,
    ) -> None:
        """Publish the diagnostics.

        Args:
            alert: Published ``ood_alert``.
            monitor: Loaded model, if there is one.
            fault: Reason of the last failure; '' if there was none.
            bundle: Bundle that the parameters name.
            bond: State of the bond with Nav2's lifecycle manager; None if there is to be none.
            counters: Further counters to report with the alert.
            lost_input: Reason why no image can arrive any more; '' if they can.
        """
        parts: dict[str, Status] = {}
        for camera in self._cameras:
            parts[camera.labelled('input')] = self._input(camera, lost_input)
            parts[camera.labelled('inference')] = _inference(camera)
            incidents = camera.incidents.counters() if camera.incidents is not None else {}
            if camera.name:
                parts[camera.labelled('ood')] = _ood(camera.alert.alert, incidents)
            else:
                counters = {**incidents, **counters}
        parts['ood'] = _ood(alert, counters)
        parts['model'] = self._model(monitor, fault, bundle)
        if bond is not None:
            level = DiagnosticStatus.WARN if bond is BondState.ALONE else DiagnosticStatus.OK
            parts['bond'] = level, bond.value, {}
        if self._unknown:
            parts['parameters'] = parameters_status(self._unknown)
        name = self._node.get_fully_qualified_name()
        self._publisher.publish(
            diagnostics_message(
                Header(stamp=self._node.get_clock().now().to_msg()),
                [
                    diagnostic(f'{name}: {part}', 'nav_monitor', level, message, values)
                    for part, (level, message, values) in parts.items()
                ],
            )
        )

    def _input(self, camera: Camera, lost_input: str) -> Status:
        subscription, slot, pipeline = camera.subscription, camera.slot, camera.pipeline
        if subscription is None or slot is None or pipeline is None:
            return DiagnosticStatus.STALE, 'not active', {}
        received = slot.received
        before = self._received[camera]
        rate = (received - before if received >= before else received) / PERIOD
        self._received[camera] = received
        lost = subscription.lost - self._lost[camera]
        self._lost[camera] = subscription.lost
        silent = time.monotonic() - subscription.last_arrival
        values: dict[str, object] = {
            'topic': subscription.topic,
            'reliability': subscription.reliability.name.lower(),
            'publishers': subscription.publishers.count,
            'received': received,
            'rate_hz': rate,
            'dropped_unjudged': slot.dropped,
            'lost_in_transport': subscription.lost,
            'size': pipeline.last_size,
            'last_image_s_ago': silent,
        }
        if camera.alert.input_rate is not None:
            values['input_rate_hz'] = camera.alert.input_rate
        if not camera.enabled:
            return DiagnosticStatus.STALE, 'switched off by ~/set_enabled', values
        fault = subscription.connection_fault()
        if fault or lost_input:
            return DiagnosticStatus.ERROR, fault or lost_input, values
        if subscription.publishers.best_effort and (lost > 0 or silent > SILENCE):
            what = f'{lost} images lost' if lost > 0 else f'no image for {silent:.0f} s'
            return (
                DiagnosticStatus.WARN if lost > 0 and silent < SILENCE else DiagnosticStatus.ERROR,
                f'{what} from a best-effort publisher: {REMEDY}',
                values,
            )
        if silent > SILENCE:
            return DiagnosticStatus.ERROR, f'no image for {silent:.0f} s', values
        if not received:
            return DiagnosticStatus.STALE, 'no image yet', values
        if camera.alert.alert.reason is Reason.LOW_INPUT_RATE:
            return DiagnosticStatus.ERROR, camera.alert.alert.detail, values
        if camera.alert.input_rate_warning:
            return DiagnosticStatus.WARN, camera.alert.input_rate_warning, values
        if subscription.publishers.other_types:
            others = ', '.join(subscription.publishers.other_types)
            return (
                DiagnosticStatus.WARN,
                f'{_per_second(rate)}; {subscription.topic} also carries {others}',
                values,
            )
        return DiagnosticStatus.OK, _per_second(rate), values

    def _model(self, monitor: Monitor | None, fault: str, wanted: str) -> Status:
        if monitor is None:
            level = DiagnosticStatus.ERROR if fault else DiagnosticStatus.STALE
            return level, fault or 'no bundle loaded', {'bundle': wanted}
        if fault:
            return DiagnosticStatus.ERROR, fault, {'bundle': wanted}
        bundle = monitor.bundle
        stale = '; '.join(
            camera.labelled(finding)
            for camera in self._cameras if (finding := camera.alert.calibration_stale)
        )
        return (
            DiagnosticStatus.WARN if stale else DiagnosticStatus.OK,
            f'calibration stale: {stale}' if stale else f'bundle {bundle.name}',
            {
                'bundle': str(bundle.folder),
                'network': bundle.network.spec,
                'layer': bundle.layer,
                'classes': len(bundle.class_names),
                'scores': ' '.join(bundle.scores),
                'decisive_score': monitor.judge.decisive,
                'fused_scores': ' '.join(bundle.calibration.fusion_members),
                'false_alarm_rate': bundle.calibration.alpha,
            },
        )


def _per_second(rate: float) -> str:
    return f'{rate:.0f} image{"" if round(rate) == 1 else "s"} per second'


def _inference(camera: Camera) -> Status:
    pipeline = camera.pipeline
    if pipeline is None:
        return DiagnosticStatus.STALE, 'not active', {}
    latencies = np.array(pipeline.latencies) * 1000
    values: dict[str, object] = {
        'device': str(pipeline.monitor.classifier.device),
        'backend': str(pipeline.monitor.classifier.engine),
        'judged': pipeline.judged,
        'failed': pipeline.failed,
        'pictures_drawn': pipeline.outputs.views.drawn,
    }
    times = np.array(pipeline.outputs.views.times) * 1000
    if len(times):
        values['drawing_ms_p95'] = float(np.percentile(times, 95))
    alert = camera.alert.alert
    if alert.reason in (Reason.INFERENCE_ERROR, Reason.INFERENCE_TIMEOUT):
        return DiagnosticStatus.ERROR, alert.detail, values
    if not len(latencies):
        return DiagnosticStatus.STALE, 'no image judged yet', values
    values['latency_ms_median'] = float(np.median(latencies))
    values['latency_ms_p99'] = float(np.percentile(latencies, 99))
    since = time.monotonic() - pipeline.last_judged
    if since > SILENCE:
        return DiagnosticStatus.STALE, f'no image judged for {since:.0f} s', values
    return (
        DiagnosticStatus.OK,
        f'{values["latency_ms_median"]:.1f} ms from an image to its verdict (median)',
        values,
    )


def _ood(alert: Alert, counters: Mapping[str, object]) -> Status:
    return (
        LEVELS[alert.state],
        alert.reason.value,
        {
            'alert': alert.value, 'state': alert.state.value, 'detail': alert.detail, **counters
        },
    )
