"""The lifecycle node ``nav_monitor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import LabelInfo

from nav_monitor_ros.decision.alert import AlertRules
from nav_monitor_ros.decision.verdict import Alert, Reason
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.alert_publisher import AlertPublisher
from nav_monitor_ros.ros.mailbox import Delivery
from nav_monitor_ros.ros.messages import (
    LEVELS,
    diagnostic,
    diagnostics_message,
    label_info_message,
)
from nav_monitor_ros.ros.parameters import BY_NAME, PARAMETERS, check_all, declare, plain
from nav_monitor_ros.ros.qos import latched, reliable
from nav_monitor_ros.ros.subscription import ImageSubscription

if TYPE_CHECKING:
    from nav_monitor_ros.monitor import Monitor
    from nav_monitor_ros.ros.incidents import Incidents
    from nav_monitor_ros.ros.worker import FrameOutputs, Worker

RULES = tuple(AlertRules.__dataclass_fields__)  # parameters of the same names
FOLLOW_PERIOD = 0.5  # seconds between looks at the image's publishers
DIAGNOSTICS_PERIOD = 1.0  # seconds
GOODBYE = 1.0  # seconds that the last True may take to reach everybody
SILENCE = 2.0  # seconds without an image that diagnostics call a fault of the transport
_Transition = Callable[[], None]


class MonitorNode(LifecycleNode):
    """Runs the network on each image and says whether to believe it.

    Three threads: the executor's runs all callbacks, the worker's all inference, and whoever calls
    ``beat`` repeats the alert; so the alert is heard while a model loads or a network hangs.
    """

    def __init__(self, name: str = 'nav_monitor', **options: Any) -> None:
        """Create the node in state unconfigured, with ``ood_alert`` already True.

        Raises:
            NavMonitorError: A parameter has a wrong type or is out of range.
        """
        super().__init__(name, **options)
        self._values = check_all(declare(self, PARAMETERS))
        _check_folder(self._values)
        self._trouble = ''  # why the last transition failed
        self._monitor: Monitor | None = None
        self._outputs: FrameOutputs | None = None
        self._incidents: Incidents | None = None
        self._worker: Worker | None = None
        self._subscription: ImageSubscription | None = None
        self._enabled = True
        self._frames_before = 0
        self._lost_before = 0
        self._last_message = 0.0  # steady seconds
        self._alerts = AlertPublisher(self, self._rules(), self._values['alert_rate'])
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', reliable(10))
        self._label_info = self.create_publisher(LabelInfo, '~/label_info', latched())
        self.create_service(Trigger, '~/reset_alert', self._reset_alert)
        self.create_service(SetBool, '~/set_enabled', self._set_enabled)
        # rclpy's timers follow the ROS clock unless told otherwise, and stop with a paused bag.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(FOLLOW_PERIOD, self._follow_publishers, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics, clock=steady)
        self.add_on_set_parameters_callback(self._set_parameters)

    @property
    def autostart(self) -> bool:
        """Return whether the node configures and activates itself."""
        return self._values['autostart']

    @property
    def alert_period(self) -> float:
        """Return the seconds between two calls of ``beat``."""
        return 1.0 / self._values['alert_rate']

    @property
    def trouble(self) -> str:
        """Return why the last transition failed, in one line; empty if it did not."""
        return self._trouble

    def beat(self) -> None:
        """Repeat the alert; to be called every ``alert_period``, from any thread."""
        worker = self._worker
        if worker is not None and worker.died:
            detail = 'the thread that judges images died and was started anew'
            self._alerts.tell(lambda machine, now: machine.failed(Reason.INFERENCE_ERROR, detail))
            self.get_logger().error(detail)
            worker.revive()
        alert = self._alerts.repeat()
        if self._incidents is not None:
            self._incidents.beat(time.monotonic())
        if self._outputs is not None and not self._is_judging(alert):
            header = Header(stamp=self.get_clock().now().to_msg())
            self._outputs.views.show_fault(header, alert, self._values)

    def stop(self) -> None:
        """Say True for the last time and stop working."""
        try:
            self._stop_work()
        finally:
            self._alerts.tell(lambda machine, now: machine.activate(False, now))
            self._alerts.deliver(GOODBYE)
            if self._incidents is not None:
                self._incidents.close()

    # Transitions. rclpy swallows their exceptions, so each one is logged here.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle."""
        return self._transition(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the camera and judge."""
        result = self._transition(self._activate)
        if result is TransitionCallbackReturn.SUCCESS:
            return super().on_activate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the alert is True from here on."""
        result = self._transition(self._deactivate, TransitionCallbackReturn.ERROR)
        if result is TransitionCallbackReturn.SUCCESS:
            return super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go."""
        return self._transition(self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        return self._transition(self._clean_up)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after a failed transition."""
        return self._transition(self._clean_up)

    def _transition(
        self,
        work: _Transition,
        failure: TransitionCallbackReturn = TransitionCallbackReturn.FAILURE,
    ) -> TransitionCallbackReturn:
        try:
            work()
        except NavMonitorError as error:
            self._trouble = str(error)
        except Exception as error:
            self._trouble = f'{type(error).__name__}: {" ".join(str(error).split())}'
        else:
            self._trouble = ''
            return TransitionCallbackReturn.SUCCESS
        self.get_logger().error(self._trouble)
        return failure

    def _configure(self) -> None:
        started = time.monotonic()
        # Imported here: torch takes seconds to load, and the alert must be heard before.
        from nav_monitor_ros.bundle import load_bundle
        from nav_monitor_ros.monitor import Monitor
        from nav_monitor_ros.ros.incidents import Incidents
        from nav_monitor_ros.ros.worker import FrameOutputs

        values = self._values
        try:
            monitor = Monitor(
                load_bundle(values['bundle']),
                device=values['device'],
                threads=values['torch_threads'],
                trusted_packages=[name for name in values['trusted_packages'] if name],
                decisive=values['score'],
                also=[name for name in values['extra_scores'] if name],
                top=values['top_k'],
                evidence_level=values['evidence_level'],
            )
            monitor.spatial_layer(values['activation_layer'])
            incidents = Incidents(self, monitor.bundle, lambda: self._values)
        except Exception as error:
            detail = ' '.join(str(error).split()) or type(error).__name__
            self._alerts.tell(lambda machine, now: machine.model_failed(detail))
            raise
        self._monitor = monitor
        self._incidents = incidents
        self._alerts.on_rise = incidents.alert_rose
        self._outputs = self._outputs or FrameOutputs(self)
        self._alerts.tell(lambda machine, now: machine.model_loaded())
        header = Header(stamp=self.get_clock().now().to_msg())
        self._label_info.publish(label_info_message(header, monitor.bundle.class_names))
        self.get_logger().info(
            f"bundle '{monitor.bundle.name}' ({len(monitor.bundle.class_names)} classes) on "
            f'{monitor.classifier.device}, loaded in {time.monotonic() - started:.1f} s'
        )

    def _activate(self) -> None:
        from nav_monitor_ros.ros.worker import Worker

        assert self._monitor is not None and self._outputs is not None
        assert self._incidents is not None
        self._monitor.judge.forget()
        self._worker = Worker(
            self, self._monitor, self._alerts, self._outputs, self._incidents,
            lambda: self._values,
        )
        self._frames_before = 0
        self._worker.start()
        self._subscription = ImageSubscription(
            self, self._values['image_transport'], self._receive
        )
        self._last_message = time.monotonic()
        self._alerts.tell(lambda machine, now: machine.activate(True, now))

    def _deactivate(self) -> None:
        self._alerts.tell(lambda machine, now: machine.activate(False, now))
        self._stop_work()

    def _clean_up(self) -> None:
        self._deactivate()
        self._monitor = None
        self._alerts.on_rise = None
        incidents, self._incidents = self._incidents, None
        if incidents is not None:
            incidents.close()
        self._alerts.tell(lambda machine, now: machine.model_loaded())

    def _stop_work(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(timeout=1.0 + self._values['inference_timeout']):
            self._monitor = None  # the stuck thread still holds it
            raise NavMonitorError(
                'the network does not return from its last image; configure again to load it anew'
            )

    # What the executor's thread is called for.

    def _receive(self, message: Image | CompressedImage, camera: Hashable) -> None:
        self._last_message = time.monotonic()
        self._alerts.image_arrived(camera)
        if self._worker is not None and self._enabled:
            stamp = message.header.stamp
            behind = self.get_clock().now().nanoseconds - stamp.sec * 1_000_000_000 - stamp.nanosec
            self._worker.mailbox.put(Delivery(message, behind / 1e9), self._last_message)

    def _follow_publishers(self) -> None:
        if self._subscription is not None:
            self._subscription.follow()

    def _reset_alert(self, _request: Trigger.Request, response: Trigger.Response):
        alert = self._alerts.tell(lambda machine, now: machine.reset())
        response.success = True
        response.message = alert.reason.value
        return response

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response):
        self._enabled = request.data
        if self._monitor is not None:
            self._monitor.judge.forget()  # frames of before the gap
        alert = self._alerts.tell(lambda machine, now: machine.enable(request.data, now))
        response.success = True
        response.message = alert.reason.value
        return response

    # Parameters.

    def _set_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        ours = {change.name: plain(change.value) for change in changes if change.name in BY_NAME}
        try:
            values = check_all({**self._values, **ours})
            if values['incident_folder'] != self._values['incident_folder']:
                _check_folder(values)
            if self._monitor is not None:
                self._monitor.spatial_layer(values['activation_layer'])
            rules = {name: values[name] for name in RULES}
            self._alerts.tell(lambda machine, now: machine.change_rules(**rules))
        except NavMonitorError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = values
        return SetParametersResult(successful=True)

    def _rules(self) -> AlertRules:
        return AlertRules(**{name: self._values[name] for name in RULES})

    # Diagnostics, for people.

    def _publish_diagnostics(self) -> None:
        header = Header(stamp=self.get_clock().now().to_msg())
        name = self.get_fully_qualified_name()
        alert = self._alerts.alert
        parts = {
            'input': self._input_status(),
            'inference': self._inference_status(),
            'ood': (
                LEVELS[alert.state],
                alert.reason.value,
                {
                    'alert': alert.value, 'state': alert.state.value, 'detail': alert.detail,
                    **(self._incidents.told() if self._incidents is not None else {}),
                },
            ),
            'model': self._model_status(),
        }
        self._diagnostics.publish(
            diagnostics_message(
                header,
                [
                    diagnostic(f'{name}: {part}', 'nav_monitor', level, message, values)
                    for part, (level, message, values) in parts.items()
                ],
            )
        )

    def _input_status(self) -> tuple[bytes, str, Mapping[str, object]]:
        subscription, worker = self._subscription, self._worker
        if subscription is None or worker is None:
            return DiagnosticStatus.STALE, 'not active', {}
        received = worker.mailbox.received
        rate = (received - self._frames_before) / DIAGNOSTICS_PERIOD
        self._frames_before = received
        lost = subscription.lost - self._lost_before
        self._lost_before = subscription.lost
        silent = time.monotonic() - self._last_message
        values = {
            'topic': subscription.topic,
            'reliability': subscription.reliability.name.lower(),
            'publishers': subscription.publishers.count,
            'received': received,
            'rate_hz': rate,
            'dropped_unjudged': worker.mailbox.dropped,
            'lost_in_transport': subscription.lost,
            'size': worker.last_size,
            'last_image_s_ago': silent,
        }
        trouble = subscription.trouble()
        if trouble:
            return DiagnosticStatus.ERROR, trouble, values
        remedy = (
            'publish reliably, or start the publisher with the middleware profile '
            'config/fastdds.xml of this package (larger shared memory)'
        )
        if subscription.publishers.best_effort and (lost or silent > SILENCE):
            what = f'{lost} images lost' if lost else f'no image for {silent:.0f} s'
            return (
                DiagnosticStatus.WARN if lost and silent < SILENCE else DiagnosticStatus.ERROR,
                f'{what} of a best-effort publisher: {remedy}',
                values,
            )
        if silent > SILENCE:
            return DiagnosticStatus.ERROR, f'no image for {silent:.0f} s', values
        if not received:
            return DiagnosticStatus.STALE, 'no image yet', values
        return DiagnosticStatus.OK, f'{rate:.0f} images a second', values

    def _inference_status(self) -> tuple[bytes, str, Mapping[str, object]]:
        worker = self._worker
        if worker is None or self._monitor is None:
            return DiagnosticStatus.STALE, 'not active', {}
        latencies = np.array(worker.latencies) * 1000
        values: dict[str, object] = {
            'device': str(self._monitor.classifier.device),
            'judged': worker.judged,
            'failed': worker.failed,
        }
        if self._outputs is not None:
            views = self._outputs.views
            values['pictures_drawn'] = views.drawn
            if views.times:
                values['drawing_ms_p95'] = float(np.percentile(np.array(views.times) * 1000, 95))
        if not len(latencies):
            return DiagnosticStatus.STALE, 'no image judged yet', values
        values['latency_ms_median'] = float(np.median(latencies))
        values['latency_ms_p99'] = float(np.percentile(latencies, 99))
        return (
            DiagnosticStatus.OK,
            f'{values["latency_ms_median"]:.1f} ms from image to alert (median)',
            values,
        )

    def _model_status(self) -> tuple[bytes, str, Mapping[str, object]]:
        if self._monitor is None:
            level = DiagnosticStatus.ERROR if self._trouble else DiagnosticStatus.STALE
            return level, self._trouble or 'no bundle loaded', {'bundle': self._values['bundle']}
        bundle = self._monitor.bundle
        stale = self._alerts.calibration_stale
        return (
            DiagnosticStatus.WARN if stale else DiagnosticStatus.OK,
            f'calibration stale: {stale}' if stale else f'bundle {bundle.name}',
            {
                'bundle': str(bundle.folder),
                'network': bundle.network.spec,
                'layer': bundle.layer,
                'classes': len(bundle.class_names),
                'scores': ' '.join(bundle.scores),
                'decisive_score': self._monitor.judge.decisive,
                'fused_scores': ' '.join(bundle.calibration.fuse),
                'false_alarm_rate': bundle.calibration.alpha,
            },
        )

    def _is_judging(self, alert: Alert) -> bool:
        """Return whether frames are being judged, so that the worker draws the overlay."""
        return alert.state.value != 'INVALID' or alert.reason.value == 'warming_up'


def _check_folder(values: Mapping[str, Any]) -> None:
    if values['incident_folder']:
        from nav_monitor_ros.offline.incidents import check_folder

        check_folder(values['incident_folder'])
