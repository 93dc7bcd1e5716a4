"""One camera of the node: what it sends, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from nav_monitor_ros.decision.alert_machine import AlertRules
from nav_monitor_ros.decision.alert_reason import Alert, State
from nav_monitor_ros.ros.monitor.alert_publisher import AlertPublisher
from nav_monitor_ros.ros.monitor.background_thread import BackgroundThread
from nav_monitor_ros.ros.monitor.image_subscription import ImageSubscription
from nav_monitor_ros.ros.monitor.latest_frame_queue import Delivery
from nav_monitor_ros.ros.process.clock import clock_remedy
from nav_monitor_ros.ros.process.log import QueuedLog

if TYPE_CHECKING:
    from nav_monitor_ros.ros.monitor.incidents import Incidents, Snapshots
    from nav_monitor_ros.ros.monitor.worker import Desk, FrameOutputs
    from nav_monitor_ros.runtime.monitor import Monitor



class WatchedCamera:
    """A camera with its subscription, its alert and what is published of its images.

    The node has one without a name, whose topics are the node's own, or several with names, whose
    topics stand under their name. What the network makes of the images is at ``desk``, while the
    node is active.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        values: Mapping[str, Any],
        alerts: AlertPublisher,
        log: QueuedLog,
        background: BackgroundThread,
    ) -> None:
        """Take a camera on; nothing is subscribed to yet.

        Args:
            node: Owns subscriptions, publishers and services.
            name: The camera's; empty for the only one.
            values: The parameters in force for it.
            alerts: Says its alert.
            log: The node's.
            background: Draws its pictures.
        """
        self.name = name
        self.values = values
        self.alerts = alerts
        self.prefix = f'{name}/' if name else ''
        self.enabled = True
        self.last_message = 0.0  # steady seconds
        self.outputs: FrameOutputs | None = None
        self.incidents: Incidents | None = None
        self.subscription: ImageSubscription | None = None
        self.desk: Desk | None = None
        self._node = node
        self._log = log
        self._background = background
        self._told: set[str] = set()  # troubles of the input that the log has
        if name:
            node.create_service(Trigger, f'~/{self.prefix}reset_alert', self._reset_alert)
            node.create_service(SetBool, f'~/{self.prefix}set_enabled', self._set_enabled)

    def says(self, text: str) -> str:
        """Return a text with the camera's name before it, where it has one."""
        return f'{self.name}: {text}' if self.name else text

    def configure(self, monitor: Monitor, snapshots: Snapshots, cameras: int) -> None:
        """Prepare what is published of each image.

        Args:
            monitor: For what is noted in incidents.
            snapshots: Are wanted when the alert rises.
            cameras: How many the node has.
        """
        # Imported here: torch takes seconds to load, and the alert must be heard before.
        from nav_monitor_ros.ros.monitor.incidents import Incidents
        from nav_monitor_ros.ros.monitor.worker import FrameOutputs

        self.incidents = Incidents(
            monitor.bundle, lambda: self.values, snapshots, self.name, cameras
        )
        self.alerts.on_rise = self.incidents.alert_rose
        self.outputs = self.outputs or FrameOutputs(self._node, self.prefix)

    def listen(self, desk: Desk) -> None:
        """Subscribe; images go to the desk's mailbox."""
        self.desk = desk
        self._told.clear()
        self.subscription = ImageSubscription(
            self._node, self._log, self.values['image_transport'], self._receive,
            f'{self.prefix}image',
        )
        self.last_message = time.monotonic()

    def close(self) -> None:
        """Stop listening."""
        if self.subscription is not None:
            self.subscription.close()
        self.subscription = self.desk = None
        self.alerts.explain_input('')

    def follow(self) -> None:
        """Follow the publishers as they come and go; to be called regularly."""
        subscription = self.subscription
        if subscription is None:
            return
        subscription.follow()
        unheard, loss = subscription.unheard(), subscription.loss()
        self.alerts.explain_input(unheard or loss)
        for kind, text in ((unheard, unheard), ('loss' if loss else '', loss)):
            if text and kind not in self._told:  # once: it may come and go many times
                self._told.add(kind)
                self._log.warning(self.says(text))

    def forget(self) -> None:
        """Let go of what ``configure`` prepared for a model."""
        self.alerts.on_rise = None
        incidents, self.incidents = self.incidents, None
        if incidents is not None:
            incidents.close()

    def beat(self) -> None:
        """Have done what is due at the heartbeat: incidents, and a picture that names a fault."""
        self._background.post((self.name, 'heartbeat'), self._beat)

    def show(self, draw: Callable[[], object]) -> None:
        """Have pictures of a judged image drawn."""
        self._background.post((self.name, 'pictures'), draw)

    def _beat(self) -> None:
        incidents, outputs, alert = self.incidents, self.outputs, self.alerts.alert
        if incidents is not None:
            incidents.beat(time.monotonic())
        if outputs is not None and not _is_judging(alert):
            header = Header(stamp=self._node.get_clock().now().to_msg())
            outputs.views.show_fault(header, alert, self.values)

    def change(self, values: Mapping[str, Any], rules: AlertRules) -> None:
        """Go on with other parameters, and the rules that follow from them."""
        changes = {name: getattr(rules, name) for name in AlertRules.__dataclass_fields__}
        self.alerts.tell(lambda machine, now: machine.change_rules(**changes))
        self.values = values

    def clock_remedy(self) -> str:
        """Return what to do where the images' stamps are far from the node's clock."""
        return clock_remedy(self._node)

    def reset(self) -> Alert:
        """Release a latched alert."""
        return self.alerts.tell(lambda machine, now: machine.reset())

    def enable(self, enabled: bool) -> Alert:
        """Switch the camera on or off; off, its alert is True."""
        self.enabled = enabled
        if self.desk is not None:
            self.desk.forget_frames = True  # those of before the gap
        return self.alerts.tell(lambda machine, now: machine.enable(enabled, now))

    def _receive(
        self, message: Image | CompressedImage, camera: Hashable, waited: float
    ) -> None:
        # What queued while this thread was late is as old as that, and no sign of life.
        self.last_message = time.monotonic() - waited
        self.alerts.image_arrived(camera, self.last_message)
        desk = self.desk
        if desk is not None and self.enabled:
            stamp = message.header.stamp
            now = self._node.get_clock().now().nanoseconds
            behind = (now - stamp.sec * 1_000_000_000 - stamp.nanosec) / 1e9 - waited
            if desk.mailbox.put(Delivery(message, behind), self.last_message):
                desk.room.step_aside()

    def _reset_alert(self, _request: Trigger.Request, response: Trigger.Response):
        response.success = True
        response.message = self.reset().reason.value
        return response

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response):
        response.success = True
        response.message = self.enable(request.data).reason.value
        return response


def _is_judging(alert: Alert) -> bool:
    """Return whether frames are being judged, so that the worker draws the overlay."""
    return alert.state is not State.INVALID or alert.reason.value == 'warming_up'
