"""The one thread that turns images into verdicts."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32
from vision_msgs.msg import Classification

from nav_monitor_ros.decision.verdict import Reason, Verdict
from nav_monitor_ros.monitor import Monitor, Neighbours, failure_of, require_fresh
from nav_monitor_ros.offline.incidents import Moment
from nav_monitor_ros.perception.image import RawImage, decode, decode_compressed
from nav_monitor_ros.ros.alert_publisher import AlertPublisher
from nav_monitor_ros.ros.incidents import Incidents
from nav_monitor_ros.ros.live_views import LiveViews
from nav_monitor_ros.ros.mailbox import Delivery, Mailbox, Parcel
from nav_monitor_ros.ros.messages import prediction_message
from nav_monitor_ros.ros.qos import reliable

_NUMBERS = re.compile(r'[\d.]+')


class FrameOutputs:
    """The publishers that speak once for each judged frame."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers."""
        self._prediction = node.create_publisher(Classification, '~/prediction', reliable(10))
        self._score = node.create_publisher(Float32, '~/ood_score', reliable(10))
        self.views = LiveViews(node)

    def publish(self, message: Image | CompressedImage, verdict: Verdict) -> None:
        """Publish the prediction and the score of one image."""
        self._prediction.publish(prediction_message(message.header, verdict))
        self._score.publish(Float32(data=-float(np.log10(verdict.p_value))))


class Worker:
    """Takes the newest image from the mailbox, judges it, publishes; again and again."""

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        alerts: AlertPublisher,
        outputs: FrameOutputs,
        incidents: Incidents,
        values: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Prepare the thread; ``start`` starts it.

        Args:
            node: For its logger.
            monitor: Judges the images; this thread is the only one to use it.
            alerts: Is told what became of each image.
            outputs: Publishes what else a frame gives.
            incidents: Keeps the last frames.
            values: Returns the parameters in force.
        """
        self.mailbox: Mailbox[Delivery] = Mailbox()
        self.judged = 0
        self.failed = 0
        self.latencies: deque[float] = deque(maxlen=300)  # seconds from arrival to alert
        self.last_size = ''
        self._node = node
        self._monitor = monitor
        self._alerts = alerts
        self._outputs = outputs
        self._incidents = incidents
        self._values = values
        self._stopped = False
        self._last_trouble = ''
        self._neighbours = Neighbours()
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def died(self) -> bool:
        """Return whether the thread ended without having been dismissed."""
        return not self._stopped and not self._thread.is_alive()

    def revive(self) -> None:
        """Go on with a new thread after the old one has died."""
        self._thread = self._new_thread()
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Dismiss the thread.

        Args:
            timeout: Seconds to wait for the frame in hand.

        Returns:
            Whether it went. If not, it is stuck in the network; whatever it may still bring about
            is not published, and its monitor must not be used again.
        """
        self._stopped = True
        self.mailbox.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name='nav_monitor worker', daemon=True)

    def _run(self) -> None:
        while (parcel := self.mailbox.take()) is not None:
            try:
                self._look(parcel)
            except BaseException as error:  # a foreign network may even raise SystemExit
                self._fail(parcel, *failure_of(error))

    def _look(self, parcel: Parcel[Delivery]) -> None:
        message, age = parcel.content
        values = self._values()
        require_fresh(age, values['stamp_tolerance'])
        image = _decode(message, values['max_pixels'])
        self.last_size = f'{image.width}x{image.height}'
        x, y, width, height = values['roi']
        region = image.crop(x, y, width, height) if width else image
        views = self._outputs.views
        views.prepare(self._monitor, values)
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if self._neighbours.broken(
            stamp_ns, parcel.arrived, values['roi'], values['image_timeout']
        ):
            self._monitor.judge.forget()
        observation = self._monitor.look(region, least_contrast=values['blank_contrast'])
        if self._stopped:
            return
        verdict = observation.verdict
        alert = self._alerts.tell(
            lambda machine, now: machine.judged(
                verdict.evidence, stamp_ns, observation.fingerprint, now
            ),
            header=message.header,
            verdict=verdict,
            extra=lambda: {'latency_ms': self._note_latency(parcel) * 1000},
        )
        self._last_trouble = ''
        self.judged += 1
        self._outputs.publish(message, verdict)
        self._incidents.frame(
            Moment(parcel.arrived, stamp_ns, message.header.frame_id, image, verdict, alert)
        )
        views.show(message.header, image, observation, alert, self._monitor, values)

    def _note_latency(self, parcel: Parcel[Delivery]) -> float:
        latency = time.monotonic() - parcel.arrived
        self.latencies.append(latency)
        return latency

    def _fail(
        self, parcel: Parcel[Delivery], reason: Reason, detail: str
    ) -> None:
        if self._stopped:
            return
        self.failed += 1
        header = parcel.content.message.header
        self._alerts.tell(
            lambda machine, _now: machine.failed(reason, detail), header=header
        )
        trouble = f'{reason.value}: {_NUMBERS.sub("#", detail)}'
        if trouble != self._last_trouble:  # once, not thirty times a second
            self._last_trouble = trouble
            self._node.get_logger().error(f'{reason.value}: {detail}')


def _decode(message: Image | CompressedImage, max_pixels: int) -> RawImage:
    if isinstance(message, CompressedImage):
        return decode_compressed(message.format, message.data, max_pixels=max_pixels)
    return decode(
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
        message.data,
        max_pixels=max_pixels,
    )
