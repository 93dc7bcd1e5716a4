"""The lifecycle node ``nav_monitor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import LabelInfo

from nav_monitor_ros.errors import NavMonitorError, describe_import_error, one_line
from nav_monitor_ros.ros.bond import LifecycleBond, create_bond
from nav_monitor_ros.ros.declared_parameters import declare_all, declare_own, plain, warn_of_unknown
from nav_monitor_ros.ros.heartbeat import Heartbeat
from nav_monitor_ros.ros.lifecycle import ReportingLifecycleNode, described
from nav_monitor_ros.ros.messages import label_info_message
from nav_monitor_ros.ros.monitor import diagnostics
from nav_monitor_ros.ros.monitor.background_thread import BackgroundThread
from nav_monitor_ros.ros.monitor.camera import Camera, check_camera_topics, rules_of
from nav_monitor_ros.ros.monitor.camera_alerts import AlertPublishers
from nav_monitor_ros.ros.monitor.diagnostics import Diagnostics
from nav_monitor_ros.ros.monitor.latest_frame_queue import LatestFrameQueue
from nav_monitor_ros.ros.parameter_requests import (
    RelatedParameters,
    RelatedParametersService,
    together,
)
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import latched
from nav_monitor_ros.ros.qos_overrides import OverridableTopics
from nav_monitor_ros.ros.service_introspection import introspect
from nav_monitor_ros.ros.suspension import LostInput
from nav_monitor_ros.runtime.camera_overrides import checked_for, known_names
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME
from nav_monitor_ros.runtime.unknown_parameters import describe_unknown

if TYPE_CHECKING:
    from nav_monitor_ros.ros.monitor.incidents import Snapshots
    from nav_monitor_ros.ros.monitor.worker import Worker
    from nav_monitor_ros.runtime.monitor import Monitor

FOLLOW_PERIOD = 0.5  # seconds between checks of the images' publishers
STOPPING = 1.0  # longest wait at the end for a callback or for an image being judged, seconds
GOODBYE = 1.0  # longest wait for the last True to be acknowledged, seconds
_Work = Callable[[], None]


class MonitorNode(RelatedParameters, OverridableTopics, ReportingLifecycleNode):
    """Lifecycle node that judges whether a network's predictions on camera images can be trusted.

    Three threads: the executor's runs all callbacks, the worker's runs all inference, and the
    heartbeat's repeats the alert, so that it is published even while a model is loading, a network
    hangs or the executor, which may belong to another program, is blocked. The heartbeat begins
    with the constructor and ends with ``destroy_node`` or when ROS is shut down.
    """

    # If the constructor fails, rclpy destroys the node when ROS is shut down.
    _stopped = True
    _heartbeat: Heartbeat | None = None

    def __init__(self, name: str = 'nav_monitor', **options: Any) -> None:
        """Create the node in the state unconfigured, with ``ood_alert`` already True.

        Raises:
            NavMonitorError: A parameter has a wrong type or is out of range.
        """
        super().__init__(name, start_parameter_services=False, **options)
        self.log = QueuedLog(self.get_logger())
        self._settings = declare_all(self)
        _check_folder(self._values)
        self._failed_work = ''  # last failure of diagnostics and the like
        self._background = BackgroundThread(self.log)
        self._monitor: Monitor | None = None
        self._snapshots: Snapshots | None = None
        self._worker: Worker | None = None
        check_camera_topics(self, self._settings)
        self._alerts = AlertPublishers(
            self, rules_of(self._settings), self._values['alert_rate'], self.log,
        )
        self._cameras = [
            Camera(self, name, self._settings.of(name), alert, self.log, self._background)
            for name, alert in self._alerts.cameras.items()
        ]
        # A line for each given parameter, or file of parameters, without effect.
        self.unknown_parameters = warn_of_unknown(
            self, self.log, **known_names(self._settings.cameras))
        self._diagnostics = Diagnostics(self, self._cameras, self.unknown_parameters)
        self._label_info = self.create_publisher(LabelInfo, '~/label_info', latched())
        self._services_of_operators = [
            self.create_service(Trigger, '~/reset_alert', self._reset_alert),
            self.create_service(SetBool, '~/set_enabled', self._set_enabled),
            *(service for camera in self._cameras for service in camera.services),
        ]
        if self._values['service_introspection'] != 'disabled':
            self._introspect()
        # By default, rclpy's timers follow the ROS clock and stop while a bag is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(
            FOLLOW_PERIOD, lambda: self._survive(self._follow_publishers), clock=steady
        )
        self.create_timer(
            diagnostics.PERIOD, lambda: self._survive(self._publish_diagnostics), clock=steady
        )
        self._bond: LifecycleBond | None = None
        if self.autostart:
            self.start_when_executed(steady)
        elif period := self._values['bond_heartbeat_period']:
            self._bond = create_bond(self, period, steady, self.log)
        self.add_on_set_parameters_callback(self._set_parameters)
        self._parameter_service = RelatedParametersService(self)
        period = 1.0 / self._values['alert_rate']
        self._lost_input, self._lost = LostInput(period), ''
        # Called with the reason if only a new process can receive images again; by default, the
        # reason is logged.
        self.on_lost_input: Callable[[str], None] = self.log.error
        self._stopped = False
        self._heartbeat = Heartbeat(self._beat, period, self.context.ok, self.log)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself once it is executed."""
        return self._values['autostart']

    @property
    def names_to_come(self) -> list[str]:
        """Return the names of topics and services that a transition will create."""
        images = [f'{camera.name}/image'.lstrip('/') for camera in self._cameras]
        compressed = [f'{name}/compressed' for name in images]
        snapshot = self._values['snapshot_service']
        return [*images, *compressed, '~/', '/diagnostics', *filter(None, [snapshot])]

    def announce_shutdown(self) -> None:
        """Set all alerts to True for the shutdown; the heartbeat continues to repeat them."""
        self._alerts.node_deactivated()

    def stop(self, timeout: float) -> None:
        """Stop working after ``announce_shutdown``.

        Args:
            timeout: Longest wait for the images that the worker is judging, seconds.

        Raises:
            NavMonitorError: The worker does not return.
        """
        self._stopped = True
        if self._bond is not None:
            self._bond.end()
        try:
            self._stop_work(timeout)
        finally:
            for camera in self._cameras:
                camera.forget()
            self._background.close(timeout)

    def wait_for_all_acked(self) -> None:
        """Wait until reliable subscribers have the last alert, at most ``GOODBYE`` seconds."""
        self._alerts.wait_for_all_acked(GOODBYE)

    def destroy_node(self) -> None:
        """Publish True, end all threads of the node, and destroy it."""
        if not self._stopped:
            try:
                self.announce_shutdown()
                self.stop(STOPPING)
                self.wait_for_all_acked()
            except Exception as error:  # such as the network that hangs, or ROS that was shut down
                self.log.error(one_line(error))
        if self._heartbeat is not None:
            self._heartbeat.close(STOPPING)
        super().destroy_node()

    def _beat(self) -> None:
        """Repeat the alert; called by the thread of the heartbeat."""
        self._lost_input.process_runs(time.monotonic())
        worker = self._worker
        if worker is not None and worker.revive():
            detail = 'the thread that judges images died and was restarted'
            self._alerts.worker_died(detail)
            self.log.error(detail)
        self._alerts.repeat()
        for camera in self._cameras:
            camera.beat()
        self._background.post(('', 'snapshot'), self._call_snapshot)

    # Transitions.

    def _configure(self) -> None:
        started = time.monotonic()
        values = self._values
        snapshots = None
        try:
            # Imported here: loading torch takes seconds, and the alert must be published before.
            from nav_monitor_ros.ros.monitor.incidents import Snapshots
            from nav_monitor_ros.runtime.monitor import build_monitor

            monitor = build_monitor(values)
            monitor.warm_up(len(self._cameras))
            monitor.spatial_layer(values['activation_layer'])
            snapshots = Snapshots(self, self.log, lambda: self._values)
            for camera in self._cameras:
                camera.configure(monitor, snapshots, len(self._cameras))
        except BaseException as error:
            for camera in self._cameras:
                camera.forget()
            if snapshots is not None:
                snapshots.close()
            if isinstance(error, ImportError):
                error = NavMonitorError(describe_import_error(error))
            self._alerts.model_failed(described(error))
            if isinstance(error, Exception):
                raise error
            # For example SystemExit: foreign code must not end this process.
            raise NavMonitorError(f"the network's code raised {described(error)}") from error
        self._monitor = monitor
        self._snapshots = snapshots
        self._alerts.model_loaded()
        header = Header(stamp=self.get_clock().now().to_msg())
        self._label_info.publish(label_info_message(header, monitor.bundle.class_names))
        self.log.info(
            f"bundle '{monitor.bundle.name}' ({len(monitor.bundle.class_names)} classes) on "
            f'{monitor.classifier.device} by {monitor.classifier.engine}, loaded in '
            f'{time.monotonic() - started:.1f} s'
        )

    def _activate(self) -> None:
        from nav_monitor_ros.ros.monitor.worker import Worker

        monitor, several = self._monitor, len(self._cameras) > 1
        assert monitor is not None
        monitor.judge.forget()
        queue = LatestFrameQueue(len(self._cameras))
        worker = Worker(monitor, queue, [
            camera.activate(monitor.for_camera() if several else monitor)
            for camera in self._cameras
        ])
        worker.start()
        self._worker = worker
        try:
            for camera, slot in zip(self._cameras, queue.slots, strict=True):
                camera.listen(slot)
        except BaseException as error:
            detail = one_line(error, 1000)
            header = Header(stamp=self.get_clock().now().to_msg())
            self._alerts.activation_failed(detail, header)
            self._stop_work()  # the next activation starts from scratch
            raise
        self._alerts.node_activated()
        if self._bond is not None:
            self._bond.form()

    def _deactivate(self) -> None:
        self._alerts.node_deactivated()
        if self._bond is not None:
            self._bond.end()
        self._stop_work()

    def _clean_up(self) -> None:
        self._deactivate()
        self._monitor = None
        for camera in self._cameras:
            camera.forget()
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is not None:
            snapshots.close()

    def _stop_work(self, timeout: float | None = None) -> None:
        for camera in self._cameras:
            camera.close()
        worker, self._worker = self._worker, None
        if timeout is None:
            timeout = 1.0 + self._values['inference_timeout']
        if worker is not None and not worker.stop(timeout):
            self._monitor = None  # the stuck thread still holds it
            detail = (
                'the network does not return from its last image; configure the node again to '
                'reload it'
            )
            self._alerts.model_failed(detail)
            raise NavMonitorError(detail)

    def _call_snapshot(self) -> None:
        snapshots = self._snapshots
        if snapshots is not None:
            snapshots.beat(time.monotonic())

    # Callbacks of the executor's thread.

    def _survive(self, work: _Work) -> None:
        """Run work whose failure must not end the node, such as diagnostics."""
        try:
            work()
        except Exception as error:
            text = f'{work.__name__.strip("_")}: {type(error).__name__}: {one_line(error)}'
            if text != self._failed_work:  # once, not every second
                self._failed_work = text
                self.log.error(text)

    def _follow_publishers(self) -> None:
        for camera in self._cameras:
            camera.follow()
        subscriptions = [c.subscription for c in self._cameras if c.subscription is not None]
        before = self._lost
        self._lost = self._lost_input.check([s.input for s in subscriptions], time.monotonic())
        if self._lost and not before:
            self.on_lost_input(self._lost)

    def _reset_alert(self, _request: Trigger.Request, response: Trigger.Response):
        for camera in self._cameras:
            camera.reset()
        response.success = True
        response.message = self._alerts.alert.reason.value
        return response

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response):
        for camera in self._cameras:
            camera.enable(request.data)
        response.success = True
        response.message = self._alerts.alert.reason.value
        return response

    # Parameters.

    @property
    def _values(self) -> Mapping[str, Any]:
        return self._settings.common

    def _set_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        given = {change.name: plain(change.value) for change in changes}
        try:
            parameters = self._settings.changed(given, configured=self._monitor is not None)
            values = parameters.common
            check_camera_topics(self, parameters)
            if values['incident_folder'] != self._values['incident_folder']:
                _check_folder(values)
            if self._monitor is not None:
                self._monitor.spatial_layer(values['activation_layer'])
            rules = rules_of(parameters)
        except NavMonitorError as error:
            reason = f'{error}{together(given, str(error))}'
            return SetParametersResult(successful=False, reason=reason)
        except Exception as error:  # an unforeseen value must not end the node
            reason = f'{type(error).__name__}: {one_line(error)}'
            return SetParametersResult(successful=False, reason=reason)
        before, self._settings = self._values['service_introspection'], parameters
        if values['service_introspection'] != before:
            self._introspect()
        for camera in self._cameras:
            camera.change(parameters.of(camera.name), rules[camera.name])
        return SetParametersResult(successful=True)

    def describe_unknown(self, names: Sequence[str]) -> list[str]:
        """Return a line for each name that is not a parameter, with the nearest parameter."""
        return describe_unknown(names, **known_names(self._settings.cameras))

    def completed(self, parameter: RosParameter) -> RosParameter:
        """Return a parameter of a request; an empty list stands for the default.

        Raises:
            NavMonitorError: The value is invalid by itself.
        """
        camera, _, name = parameter.name.rpartition('.')
        value = plain(parameter.value)
        if name not in BY_NAME or value is None:  # None: to be deleted
            return parameter
        checked = checked_for(camera, name, value) if camera else BY_NAME[name].check(value)
        return RosParameter(parameter.name, value=checked) if value == [] else parameter

    def declare_again(self, name: str) -> None:
        """Declare a deleted parameter of a camera, so that it can be set again."""
        declare_own(self, name)

    def _introspect(self) -> None:
        state = self._values['service_introspection']
        introspect(self, self._services_of_operators, state, self.log)

    def _publish_diagnostics(self) -> None:
        self._diagnostics.publish(
            self._alerts.alert,
            self._monitor,
            self._failure,
            self._values['bundle'],
            self._bond.state if self._bond is not None else None,
            self._snapshots.counters() if self._snapshots is not None else {},
            self._lost,
        )


def _check_folder(values: Mapping[str, Any]) -> None:
    if values['incident_folder']:
        from nav_monitor_ros.runtime.incident_folder import check_folder

        check_folder(values['incident_folder'], filter(None, values['cameras']))
