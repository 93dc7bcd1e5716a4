"""Processing of one camera's frames in the worker: decode and prepare, publish, record."""

from __future__ import annotations

import math
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

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.image_messages import decode_message
from nav_monitor_ros.ros.messages import prediction_message
from nav_monitor_ros.ros.monitor.background_thread import BackgroundThread
from nav_monitor_ros.ros.monitor.camera_alerts import CameraAlert
from nav_monitor_ros.ros.monitor.incidents import Incidents
from nav_monitor_ros.ros.monitor.latest_frame_queue import QueuedFrame
from nav_monitor_ros.ros.monitor.live_views import LiveViews
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import reliable, unattended
from nav_monitor_ros.runtime.incident_frames import RecordedFrame
from nav_monitor_ros.runtime.monitor import (
    FrameContinuity,
    Monitor,
    Observation,
    Prepared,
    failure_of,
    require_fresh,
)

_NUMBERS = re.compile(r'[\d.]+')


class FrameOutputs:
    """Publishers of one camera that publish once for each judged frame."""

    def __init__(self, node: LifecycleNode, prefix: str) -> None:
        """Create the publishers.

        Args:
            node: Node that owns the publishers.
            prefix: Prefix of their names; ends in a slash unless it is empty.
        """
        self._prediction = node.create_publisher(
            Classification, f'~/{prefix}prediction', reliable(10), **unattended()
        )
        self._score = node.create_publisher(
            Float32, f'~/{prefix}ood_score', reliable(10), **unattended()
        )
        self.views = LiveViews(node, prefix)

    def publish(self, message: Image | CompressedImage, verdict: Verdict) -> None:
        """Publish the prediction and the score of one image."""
        self._prediction.publish(prediction_message(message.header, verdict))
        self._score.publish(Float32(data=-float(np.log10(verdict.p_value))))


class CameraPipeline:
    """Path of one camera's frames from the queue to the alert. Used by the worker's thread only.

    However, any thread may read counters and set ``values`` and ``forget_frames``.
    """

    def __init__(
        self,
        camera: str,
        monitor: Monitor,
        alert: CameraAlert,
        outputs: FrameOutputs,
        incidents: Incidents,
        values: Mapping[str, Any],
        log: QueuedLog,
        background: BackgroundThread,
        clock_remedy: Callable[[], str],
    ) -> None:
        """Create the pipeline.

        Args:
            camera: Name of the camera; '' for the only one.
            monitor: Monitor that judges only the images of this camera.
            alert: Alert that receives the result of each frame.
            outputs: Publishers of each verdict.
            incidents: Recorder of each judged frame.
            values: Parameters of the camera.
            log: Log for failures, once for each kind.
            background: Thread that draws the pictures.
            clock_remedy: Function that returns a remedy for stamps that differ from the node's
                clock.
        """
        self.camera = camera
        self.monitor = monitor
        self.outputs = outputs
        self.values = values
        self.forget_frames = False  # whether the next image does not continue the last ones
        self.judged = 0
        self.failed = 0
        self.last_judged = -math.inf  # on the steady clock, seconds
        self.latencies: deque[float] = deque(maxlen=300)  # seconds from arrival to alert
        self.last_size = ''
        self._alert = alert
        self._incidents = incidents
        self._log = log
        self._background = background
        self._clock_remedy = clock_remedy
        self._pixels = monitor.new_pixels()
        self._continuity = FrameContinuity()
        self._last_failure = ''

    def prepare(self, frame: QueuedFrame) -> tuple[DecodedImage, Prepared]:
        """Return a frame, decoded and as input of the network.

        Raises:
            NavMonitorError: The frame is stale, malformed, blank or saturated.
        """
        values, message = self.values, frame.message
        require_fresh(
            frame.stamp_age, values['stamp_tolerance'], "node's", self._clock_remedy,
            stamp_ns=_stamp_ns(message),
        )
        image = decode_message(
            message, compressed=isinstance(message, CompressedImage),
            max_pixels=values['max_pixels'], exif=self.monitor.bundle.preprocess.exif,
        )
        self.last_size = f'{image.width}x{image.height}'
        x, y, width, height = values['roi']
        region = image.crop(x, y, width, height) if width else image
        interrupted = self._continuity.interrupted(
            _stamp_ns(message), frame.arrived, values['roi'], values['image_timeout']
        )
        if interrupted or self.forget_frames:
            self.forget_frames = False
            self.monitor.judge.forget()
        return image, self.monitor.prepare(
            region, least_contrast=values['blank_contrast'], out=self._pixels
        )

    def publish(
        self, frame: QueuedFrame, observation: Observation, dismissed: threading.Event
    ) -> Alert | None:
        """Publish the results of a judged frame, the alert first.

        Args:
            frame: Received frame.
            observation: Result of judging the frame.
            dismissed: Event that is set once the worker must no longer publish for this camera.

        Returns:
            New alert; None if the worker was dismissed, and nothing was published.
        """
        verdict = observation.verdict
        alert = self._alert.frame_judged(
            verdict, observation.fingerprint, self._capture_time(frame), frame.message.header,
            arrived=frame.arrived, values={'forward_ms': observation.forward_seconds * 1000},
            dismissed=dismissed,
        )
        if alert is not None:
            self.last_judged = time.monotonic()
            self.latencies.append(self.last_judged - frame.arrived)
            self._last_failure = ''
            self.judged += 1
            self.outputs.publish(frame.message, verdict)
        return alert

    def record(
        self, frame: QueuedFrame, image: DecodedImage, observation: Observation, alert: Alert
    ) -> None:
        """Do the work on a judged frame that is not urgent: incidents and pictures."""
        header = frame.message.header
        self._incidents.frame(
            RecordedFrame(
                frame.arrived, _stamp_ns(frame.message), header.frame_id, image,
                observation.verdict, alert,
            )
        )
        if self.outputs.views.is_due():
            self._background.post(
                (self.camera, 'pictures'),
                lambda: self.outputs.views.show(
                    header, image, observation, alert, self.monitor, self.values
                ),
            )

    def fail(self, frame: QueuedFrame, error: BaseException) -> None:
        """Publish that a frame could not be judged; log each kind of failure once."""
        reason, detail = failure_of(error)
        self.failed += 1
        self._alert.frame_failed(reason, detail, frame.message.header)
        failure = f'{reason.value}: {_NUMBERS.sub("#", detail)}'
        if failure != self._last_failure:  # once, not thirty times per second
            self._last_failure = failure
            camera = f'{self.camera}: ' if self.camera else ''
            self._log.error(f'{camera}{reason.value}: {detail}')

    def _capture_time(self, frame: QueuedFrame) -> float:
        """Return the best known capture time of an image on the steady clock, in seconds."""
        clocks_agree = self.values['stamp_tolerance'] > 0
        return frame.arrived - max(frame.late, frame.stamp_age if clocks_agree else 0.0)


def _stamp_ns(message: Image | CompressedImage) -> int:
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec
