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
from nav_monitor_ros.ros.monitor.image_subscription import ImageSubscription
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
    """A camera with its subscription, its alert and what is published of its images.

    The node has one without a name, whose topics are the node's own, or several with names, whose
    topics stand under their name. Belongs to the executor's thread, but for ``beat``.
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
            node: Owns subscriptions, publishers and services.
            name: The camera's; empty for the only one.
            values: The parameters in force for it.
            alert: Its own.
            log: The node's.
            background: Draws its pictures and writes its incidents.
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
        self._reported: set[str] = set()  # faults of the input that the log has
        if name:
            node.create_service(Trigger, f'~/{name}/reset_alert', self._reset_alert)
            node.create_service(SetBool, f'~/{name}/set_enabled', self._set_enabled)

    def labelled(self, text: str) -> str:
        """Return a text with the camera's name before it, where it has one."""
        return f'{self.name}: {text}' if self.name else text

    def configure(self, monitor: Monitor, snapshots: Snapshots, cameras: int) -> None:
        """Prepare what is published of each image.

        Args:
            monitor: For what is noted in incidents.
            snapshots: Are requested when the alert rises.
            cameras: How many the node has.
        """
        # Imported here: torch takes seconds to load, and the alert must be heard before.
        from nav_monitor_ros.ros.monitor.camera_pipeline import FrameOutputs
        from nav_monitor_ros.ros.monitor.incidents import Incidents

        self.incidents = Incidents(
            monitor.bundle, lambda: self.values, snapshots, self.name, cameras
        )
        self.alert.on_rise(self.incidents.alert_rose)
        self.outputs = self.outputs or FrameOutputs(self._node, self._prefix)

    def activate(self, monitor: Monitor) -> CameraPipeline:
        """Return what the worker does with the camera's frames, which ``listen`` will provide.

        Args:
            monitor: Judges this camera's images and no others.
        """
        from nav_monitor_ros.ros.monitor.camera_pipeline import CameraPipeline

        assert self.outputs is not None and self.incidents is not None
        self.pipeline = CameraPipeline(
            self.name, monitor, self.alert, self.outputs, self.incidents, self.values, self._log,
            self._background, lambda: clock_remedy(self._node),
        )
        return self.pipeline

    def listen(self, slot: FrameSlot) -> None:
        """Subscribe; frames go into the slot."""
        self.slot = slot
        self._reported.clear()
        self.subscription = ImageSubscription(
            self._node, self._log, self.values['image_transport'], f'{self._prefix}image',
            self.alert, slot,
        )
        self.subscription.enabled = self.enabled

    def close(self) -> None:
        """Stop listening."""
        if self.subscription is not None:
            self.subscription.close()
        self.subscription = self.slot = self.pipeline = None
        self.alert.input_explained('')

    def follow(self) -> None:
        """Follow the publishers as they come and go; to be called regularly."""
        subscription = self.subscription
        if subscription is None:
            return
        subscription.follow()
        fault, loss = subscription.connection_fault(), subscription.loss_report()
        self.alert.input_explained(fault or loss)
        for kind, text in ((fault, fault), ('loss' if loss else '', loss)):
            if text and kind not in self._reported:  # once: it may come and go many times
                self._reported.add(kind)
                self._log.warning(self.labelled(text))

    def forget(self) -> None:
        """Let go of what ``configure`` prepared for a model."""
        self.alert.on_rise(None)
        incidents, self.incidents = self.incidents, None
        if incidents is not None:
            incidents.close()

    def beat(self) -> None:
        """Have done what is due at the heartbeat: incidents, and a picture that names a fault."""
        self._background.post((self.name, 'heartbeat'), self._beat)

    def _beat(self) -> None:
        incidents, outputs, alert = self.incidents, self.outputs, self.alert.alert
        if incidents is not None:
            incidents.beat(time.monotonic())
        # While frames are judged, their own pictures are drawn.
        judging = alert.state is not State.INVALID or alert.reason is Reason.WARMING_UP
        if outputs is not None and not judging:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            outputs.views.show_fault(header, alert, self.values)

    def change(self, values: Mapping[str, Any], rules: AlertRules) -> None:
        """Go on with other parameters, and the rules that follow from them."""
        self.alert.rules_changed(rules)
        self.values = values
        if self.pipeline is not None:
            self.pipeline.values = values

    def reset(self) -> Alert:
        """Release a latched alert."""
        return self.alert.latch_reset()

    def enable(self, enabled: bool) -> Alert:
        """Switch the camera on or off; off, its alert is True."""
        self.enabled = enabled
        if self.subscription is not None:
            self.subscription.enabled = enabled
        if self.pipeline is not None:
            self.pipeline.forget_frames = True  # those of before the gap
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
    """Check that no remapping makes one topic of two cameras' alerts, or of their equal views.

    Raises:
        NavMonitorError: One does.
    """
    if settings.cameras == ('',):
        return
    alerts = ['ood_alert', *(f'{camera}/ood_alert' for camera in settings.cameras)]
    check_distinct(node, alerts, 'who listens could not tell one alert from the other')
    views: dict[tuple[str, tuple[int, ...]], str] = {}
    for camera in settings.cameras:
        topic, roi = node.resolve_topic_name(f'{camera}/image'), settings.of(camera)['roi']
        other = views.setdefault((topic, tuple(roi)), camera)
        if other != camera:
            raise NavMonitorError(
                f'the cameras {other} and {camera} are both {topic}: one of them would not be '
                f'watched; remap {camera}/image, or give the two a roi of their own'
            )


def rules_of(settings: CameraValues) -> dict[str, AlertRules]:
    """Return the rules of each camera's alert.

    Raises:
        NavMonitorError: Some of its parameters contradict each other.
    """
    rules = {}
    for camera in settings.cameras:
        values = settings.of(camera)
        try:
            rules[camera] = AlertRules(**{name: values[name] for name in RULES})
        except NavMonitorError as error:
            raise NavMonitorError(f'camera {camera}: {error}' if camera else str(error)) from None
    return rules
