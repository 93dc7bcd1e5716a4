"""One camera of the node: its topics, services, parameters and alert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.decision.alert.state_machine import AlertRules
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.monitor.background_thread import BackgroundThread
from nav_monitor_ros.ros.monitor.camera_alerts import CameraAlert
from nav_monitor_ros.ros.monitor.image_subscription import ImageSubscription, subscribed_name
from nav_monitor_ros.ros.monitor.latest_frame_queue import FrameSlot
from nav_monitor_ros.ros.process.clock import clock_remedy
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.topic_endpoints import check_distinct
from nav_monitor_ros.runtime.camera_overrides import CameraValues

if TYPE_CHECKING:
    from nav_monitor_ros.ros.monitor.camera_pipeline import CameraPipeline, FrameOutputs
    from nav_monitor_ros.ros.monitor.incidents import Incidents, Snapshots
    from nav_monitor_ros.runtime.monitor import Monitor

RULES = tuple(AlertRules.__dataclass_fields__)  # parameters of the same names


class Camera:
    """Camera with its subscription, its alert and the publishers of its results.

    The node has either one camera without a name, whose topics are directly those of the node, or
    several cameras with names, which prefix their topics. Used by the executor's thread only,
    except for ``beat``.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        values: Mapping[str, Any],
        alert: CameraAlert,
        log: QueuedLog,
        background: BackgroundThread,
    ) -> None:
        """Create the camera's services; nothing is subscribed to yet.

        Args:
            node: Node that owns subscriptions, publishers and services.
            name: Name of the camera; '' for the only one.
            values: Parameters of the camera.
            alert: Alert of the camera.
            log: Log of the node.
            background: Thread that draws its pictures and writes its incidents.
        """
        self.name = name
        self.values = values
        self.alert = alert
        self.enabled = True
        self.outputs: FrameOutputs | None = None
        self.incidents: Incidents | None = None
        self.subscription: ImageSubscription | None = None
        self.slot: FrameSlot | None = None
        self.pipeline: CameraPipeline | None = None
        self._prefix = f'{name}/' if name else ''
        self._node = node
        self._log = log
        self._background = background
        self._reported: set[str] = set()  # faults of the input that have been logged
        self.services = [] if not name else [
            node.create_service(Trigger, f'~/{name}/reset_alert', self._reset_alert),
            node.create_service(SetBool, f'~/{name}/set_enabled', self._set_enabled),
        ]

    def labelled(self, text: str) -> str:
        """Return a text, prefixed with the camera's name if it has one."""
        return f'{self.name}: {text}' if self.name else text

    def configure(self, monitor: Monitor, snapshots: Snapshots, cameras: int) -> None:
        """Prepare the publishers and the recorder of incidents.

        Args:
            monitor: Monitor whose bundle is described in incidents.
            snapshots: Snapshots, which are requested when the alert rises.
            cameras: Number of cameras of the node.
        """
        # Imported here: loading torch takes seconds, and the alert must be published before.
        from nav_monitor_ros.ros.monitor.camera_pipeline import FrameOutputs
        from nav_monitor_ros.ros.monitor.incidents import Incidents

        self.incidents = Incidents(
            monitor.bundle, lambda: self.values, snapshots, self.name, cameras
        )
        self.alert.on_rise(self.incidents.alert_rose)
        self.outputs = self.outputs or FrameOutputs(self._node, self._prefix)

    def activate(self, monitor: Monitor) -> CameraPipeline:
        """Create the worker's pipeline for the camera's frames, which ``listen`` will provide.

        Args:
            monitor: Monitor that judges only the images of this camera.
        """
        from nav_monitor_ros.ros.monitor.camera_pipeline import CameraPipeline

        assert self.outputs is not None and self.incidents is not None
        self.pipeline = CameraPipeline(
            self.name, monitor, self.alert, self.outputs, self.incidents, self.values, self._log,
            self._background, lambda: clock_remedy(self._node),
        )
        return self.pipeline

    def listen(self, slot: FrameSlot) -> None:
        """Subscribe to the images; frames are put into the slot."""
        self.slot = slot
        self._reported.clear()
        self.subscription = ImageSubscription(
            self._node, self._log, self.values['image_transport'], f'{self._prefix}image',
            self.alert, slot,
        )
        self.subscription.enabled = self.enabled

    def close(self) -> None:
        """End the subscription."""
        if self.subscription is not None:
            self.subscription.close()
        self.subscription = self.slot = self.pipeline = None
        self.alert.input_explained('')

    def follow(self) -> None:
        """Adapt to publishers that appear and disappear; must be called regularly."""
        subscription = self.subscription
        if subscription is None:
            return
        subscription.follow()
        fault, loss = subscription.connection_fault(), subscription.loss_report()
        self.alert.input_explained(fault or loss)
        for kind, text in ((fault, fault), ('loss' if loss else '', loss)):
            if text and kind not in self._reported:  # once, even if the fault recurs
                self._reported.add(kind)
                self._log.warning(self.labelled(text))

    def forget(self) -> None:
        """Release what ``configure`` prepared for a model."""
        self.alert.on_rise(None)
        incidents, self.incidents = self.incidents, None
        if incidents is not None:
            incidents.close()

    def beat(self) -> None:
        """Queue the periodic work: incidents, and an overlay that shows a fault."""
        self._background.post((self.name, 'heartbeat'), self._beat)

    def _beat(self) -> None:
        incidents, outputs, alert = self.incidents, self.outputs, self.alert.alert
        if incidents is not None:
            incidents.beat(time.monotonic())
        # While frames are being judged, the overlay shows them instead.
        judging = alert.state is not State.INVALID or alert.reason in (
            Reason.WARMING_UP, Reason.LOW_INPUT_RATE
        )
        if outputs is not None and not judging:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            outputs.views.show_fault(header, alert, self.values)

    def change(self, values: Mapping[str, Any], rules: AlertRules) -> None:
        """Apply changed parameters, and the rules that follow from them."""
        self.alert.rules_changed(rules)
        self.values = values
        if self.pipeline is not None:
            self.pipeline.values = values

    def reset(self) -> Alert:
        """Release a latched alert."""
        return self.alert.latch_reset()

    def enable(self, enabled: bool) -> Alert:
        """Switch the camera on or off; its alert is True while it is off."""
        self.enabled = enabled
        if self.subscription is not None:
            self.subscription.enabled = enabled
        if self.pipeline is not None:
            self.pipeline.forget_frames = True  # those before the gap
        return self.alert.camera_enabled(enabled)

    def _reset_alert(self, _request: Trigger.Request, response: Trigger.Response):
        response.success = True
        response.message = self.reset().reason.value
        return response

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response):
        response.success = True
        response.message = self.enable(request.data).reason.value
        return response


def check_camera_topics(node: LifecycleNode, settings: CameraValues) -> None:
    """Check that remappings keep the cameras' alerts apart, and their images or regions.

    Raises:
        NavMonitorError: Two alerts have the same topic, or two cameras the same image topic and
            region.
    """
    if settings.cameras == ('',):
        return
    alerts = ['ood_alert', *(f'{camera}/ood_alert' for camera in settings.cameras)]
    check_distinct(node, alerts, 'subscribers could not distinguish the two alerts')
    views: dict[tuple[str, tuple[int, ...]], str] = {}
    for camera in settings.cameras:
        values = settings.of(camera)
        name = subscribed_name(node, f'{camera}/image', values['image_transport'])
        topic, roi = node.resolve_topic_name(name), values['roi']
        other = views.setdefault((topic, tuple(roi) if roi[2] else ()), camera)
        if other != camera:
            raise NavMonitorError(
                f'the cameras {other} and {camera} both use {topic}: one of them would not be '
                f'monitored; remap {camera}/image, or give each of them its own roi'
            )


def rules_of(settings: CameraValues) -> dict[str, AlertRules]:
    """Return the rules of each camera's alert.

    Raises:
        NavMonitorError: Parameters of a camera contradict each other.
    """
    rules = {}
    for camera in settings.cameras:
        values = settings.of(camera)
        try:
            rules[camera] = AlertRules(**{name: values[name] for name in RULES})
        except NavMonitorError as error:
            raise NavMonitorError(f'camera {camera}: {error}' if camera else str(error)) from None
    return rules
