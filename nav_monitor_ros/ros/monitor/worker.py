"""The one thread that turns images into verdicts."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32
from vision_msgs.msg import Classification

from nav_monitor_ros.decision.alert_machine import AlertMachine
from nav_monitor_ros.decision.alert_reason import Alert
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.image_encodings import decode
from nav_monitor_ros.ros.messages import prediction_message
from nav_monitor_ros.ros.monitor.latest_frame_queue import Delivery, Mailbox, Mailroom, Parcel
from nav_monitor_ros.ros.monitor.live_views import LiveViews
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.qos import reliable, unattended
from nav_monitor_ros.runtime.incidents import Moment
from nav_monitor_ros.runtime.monitor import (
    FrameContinuity,
    Monitor,
    Observation,
    Prepared,
    failure_of,
    observe_batch,
    require_fresh,
)

if TYPE_CHECKING:
    from nav_monitor_ros.ros.monitor.camera_pipeline import WatchedCamera

_NUMBERS = re.compile(r'[\d.]+')


class DismissedError(Exception):
    """The worker was dismissed while it judged an image."""


class FrameOutputs:
    """The publishers that speak once for each judged frame of one camera."""

    def __init__(self, node: LifecycleNode, prefix: str) -> None:
        """Create the publishers.

        Args:
            node: Owns them.
            prefix: Stands before their names, ends in a slash unless it is empty.
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


class Desk:
    """What the worker has of one camera: its mailbox, its evidence, its counters."""

    def __init__(
        self, camera: WatchedCamera, monitor: Monitor, room: Mailroom[Delivery], number: int
    ) -> None:
        """Start without images.

        Args:
            camera: Whose desk it is; it is configured.
            monitor: Judges this camera's images and no others.
            room: Where the images come in.
            number: Of this camera's mailbox there.
        """
        assert camera.outputs is not None and camera.incidents is not None
        self.camera = camera
        self.outputs = camera.outputs
        self.incidents = camera.incidents
        self.monitor = monitor
        self.room = room
        self.mailbox: Mailbox[Delivery] = room.boxes[number]
        self.forget_frames = False  # set from any thread: the next image does not follow the last
        self.pixels = monitor.new_pixels()
        self.continuity = FrameContinuity()
        self.judged = 0
        self.failed = 0
        self.latencies: deque[float] = deque(maxlen=300)  # seconds from arrival to alert
        self.last_size = ''
        self.last_trouble = ''


@dataclass
class _Case:
    """One image on its way."""

    desk: Desk
    parcel: Parcel[Delivery]
    done: bool = False  # its camera was told what became of it
    image: DecodedImage | None = None
    prepared: Prepared | None = None


@dataclass(frozen=True)
class _Finding:
    """One judged image, of which the alert already knows."""

    case: _Case
    image: DecodedImage
    observation: Observation
    alert: Alert


class Worker:
    """Takes the newest image of each camera, judges them together, publishes; again and again."""

    def __init__(
        self, log: QueuedLog, monitor: Monitor, cameras: Sequence[WatchedCamera]
    ) -> None:
        """Prepare the thread; ``start`` starts it.

        Args:
            log: Gets what goes wrong.
            monitor: Judges the images; this thread is the only one to use it. Each camera's
                own comes from for_camera.
            cameras: At least one; all are configured.
        """
        self._log = log
        self._monitor = monitor
        self._several = len(cameras) > 1
        self._room: Mailroom[Delivery] = Mailroom(len(cameras))
        self.desks = tuple(
            Desk(camera, monitor if len(cameras) == 1 else monitor.for_camera(), self._room, number)
            for number, camera in enumerate(cameras)
        )
        self._stopped = False
        self._lock = threading.Lock()  # held where a thread begins or is dismissed
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work, with one thread however often this is called."""
        with self._lock:
            if self._thread is None:
                self._begin()

    def revive(self) -> bool:
        """Go on with a new thread if the one that was started has ended by itself.

        Returns:
            Whether it had.
        """
        with self._lock:
            died = self._thread is not None and not self._thread.is_alive()
            if died and not self._stopped:
                self._begin()
            return died and not self._stopped

    def stop(self, timeout: float) -> bool:
        """Dismiss the thread.

        Args:
            timeout: Seconds to wait for the frames in hand.

        Returns:
            Whether it went. If not, it is stuck in the network; whatever it may still bring about
            is not published, and its monitor must not be used again.
        """
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._room.close()
        if thread is None:
            return True
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _begin(self) -> None:
        # A thread that was made but not started counts as ended, so no other one may see it.
        thread = threading.Thread(target=self._run, name='nav_monitor worker', daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        while (mail := self._room.take()) is not None:
            cases = [_Case(self.desks[number], parcel) for number, parcel in mail]
            if self._several:
                for case in cases:
                    case.desk.mailbox.interval = 1 / case.desk.camera.values['camera_rate']
            try:
                self._work(cases)
            except BaseException as error:  # a foreign network may even raise SystemExit
                for case in cases:
                    if not case.done:
                        self._fail(case, error)

    def _work(self, cases: Sequence[_Case]) -> None:
        """Judge one image of each of some cameras: all alerts first, then all pictures."""
        ready = []
        for case in cases:
            try:
                ready.append((case.desk.monitor, self._open(case)))
            except Exception as error:
                self._fail(case, error)
        cases = [case for case in cases if not case.done]
        if not cases:
            return
        self._show_layer(cases)
        findings = []
        for case, seen in zip(cases, observe_batch(ready), strict=True):
            if self._stopped:
                return
            try:
                findings.append(self._tell(case, seen))
            except BaseException as error:
                self._fail(case, error)
        for finding in findings:
            try:
                self._keep(finding)
            except Exception as error:
                self._fail(finding.case, error)

    def _show_layer(self, cases: Sequence[_Case]) -> None:
        """Have the network keep the maps that the next pictures show, if any is due."""
        due = any(case.desk.outputs.views.need_maps() for case in cases)
        layer = cases[0].desk.camera.values['activation_layer']  # the same for all cameras
        self._monitor.show_layer(layer if due else None)

    def _open(self, case: _Case) -> Prepared:
        """Return an image as the network takes it.

        Raises:
            NavMonitorError: It is old, broken, blank or saturated.
        """
        desk, (message, age) = case.desk, case.parcel.content
        values = desk.camera.values
        require_fresh(age, values['stamp_tolerance'], "node's", desk.camera.clock_remedy)
        case.image = image = _decode(
            message, values['max_pixels'], desk.monitor.bundle.preprocess.exif
        )
        desk.last_size = f'{image.width}x{image.height}'
        x, y, width, height = values['roi']
        region = image.crop(x, y, width, height) if width else image
        broken = desk.continuity.interrupted(
            _stamp_ns(message), case.parcel.arrived, values['roi'], values['image_timeout']
        )
        if broken or desk.forget_frames:
            desk.forget_frames = False
            desk.monitor.judge.forget()
        return desk.monitor.prepare(
            region, least_contrast=values['blank_contrast'], out=desk.pixels
        )

    def _tell(self, case: _Case, seen: Observation | BaseException) -> _Finding:
        if not isinstance(seen, Observation):
            raise seen
        desk, parcel = case.desk, case.parcel
        message, verdict = parcel.content.message, seen.verdict

        def judged(machine: AlertMachine, now: float) -> None:
            if self._stopped:  # meanwhile; the camera may have a new worker
                raise DismissedError
            machine.judged(
                verdict.evidence, _stamp_ns(message), seen.fingerprint, now, _taken(desk, parcel)
            )

        alert = desk.camera.alerts.tell(
            judged,
            header=message.header,
            verdict=verdict,
            extra=lambda: {
                'latency_ms': _note_latency(desk, parcel) * 1000,
                'forward_ms': seen.forward_seconds * 1000,
            },
        )
        desk.last_trouble = ''
        desk.judged += 1
        desk.outputs.publish(message, verdict)
        case.done = True
        assert case.image is not None
        return _Finding(case, case.image, seen, alert)

    def _keep(self, finding: _Finding) -> None:
        """Do for one judged image what is for people, and can wait."""
        desk, parcel = finding.case.desk, finding.case.parcel
        message = parcel.content.message
        desk.incidents.frame(
            Moment(
                parcel.arrived, _stamp_ns(message), message.header.frame_id, finding.image,
                finding.observation.verdict, finding.alert,
            )
        )
        if desk.outputs.views.is_due():
            desk.camera.show(
                lambda: desk.outputs.views.show(
                    message.header, finding.image, finding.observation, finding.alert,
                    self._monitor, desk.camera.values,
                )
            )

    def _fail(self, case: _Case, error: BaseException) -> None:
        case.done = True
        if self._stopped:
            return
        reason, detail = failure_of(error)
        desk = case.desk
        desk.failed += 1
        desk.camera.alerts.tell(
            lambda machine, _now: machine.failed(reason, detail),
            header=case.parcel.content.message.header,
        )
        trouble = f'{reason.value}: {_NUMBERS.sub("#", detail)}'
        if trouble != desk.last_trouble:  # once, not thirty times a second
            desk.last_trouble = trouble
            self._log.error(f'{desk.camera.says(reason.value)}: {detail}')


def _note_latency(desk: Desk, parcel: Parcel[Delivery]) -> float:
    latency = time.monotonic() - parcel.arrived
    desk.latencies.append(latency)
    return latency


def _taken(desk: Desk, parcel: Parcel[Delivery]) -> float:
    """Return when an image was taken, as far as that is known, in steady seconds."""
    clocks_agree = desk.camera.values['stamp_tolerance'] > 0
    return parcel.arrived - (max(0.0, parcel.content.age) if clocks_agree else 0.0)


def _stamp_ns(message: Image | CompressedImage) -> int:
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _decode(message: Image | CompressedImage, max_pixels: int, exif: str) -> DecodedImage:
    if isinstance(message, CompressedImage):
        return decode_compressed(message.format, message.data, max_pixels=max_pixels, exif=exif)
    return decode(
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
        message.data,
        max_pixels=max_pixels,
    )
