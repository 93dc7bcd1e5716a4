"""Run recorded images through the node's core without DDS, as fast as the network allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from nav_monitor_ros.data.bags.bag import MAX_PIXELS, Bag, BagDamagedError, BagImage
from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import (
    FrameContinuity,
    Monitor,
    Prepared,
    failure_of,
    require_fresh,
)

AHEAD = 8  # images in the pipeline
_NOTICED = 1e-3  # seconds between checks for silence


@dataclass(frozen=True)
class ReplaySettings:
    """The node's parameters that affect a replay."""

    rules: AlertRules = field(default_factory=AlertRules)
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)  # x, y, width, height; pixels; 0 for all
    max_pixels: int = MAX_PIXELS
    blank_contrast: float = 2.0  # gray levels


@dataclass(frozen=True, eq=False)
class ReplayEvent:
    """The monitor's output at one moment of the recording."""

    topic: str
    time_ns: int  # on the recorder's clock
    alert: Alert
    evidence: float  # progress of the evidence towards out-of-distribution, in [0, 1]
    calibration_stale: str  # description of drift from the calibration data, or ''
    changed: bool  # whether the alert differs from the previous one
    image: BagImage | None = None  # None if silence between images was noticed
    pixels: DecodedImage | None = None  # None if the message is not an image
    verdict: Verdict | None = None  # None if the image could not be judged


class _Stream:
    """One camera of the recording, with its evidence and alert."""

    def __init__(self, topic: str, monitor: Monitor, settings: ReplaySettings) -> None:
        self._topic = topic
        self._monitor = monitor
        self._settings = settings
        self._machine = AlertMachine(settings.rules, 0.0)
        self._machine.activate(True, 0.0)
        self._continuity = FrameContinuity()
        self._last: tuple[bool, str] | None = None
        self._said = 0.0  # time of the last output, seconds

    def silence(self, now: float, origin_ns: int) -> Iterator[ReplayEvent]:
        """Yield the node's outputs before ``now`` that are due to missing images."""
        for moment in self._machine.stale_from:
            noticed = moment + _NOTICED
            if self._said < noticed < now:
                event = self._event(noticed, origin_ns)
                if event.changed:
                    yield event

    def image(self, frame: _Frame, origin_ns: int) -> ReplayEvent:
        """Return the node's output for an image."""
        now = (frame.image.received_ns - origin_ns) / 1e9
        self._machine.image_arrived(now)
        verdict = None
        try:
            verdict = self._judge(frame, now)
        except Exception as error:
            self._machine.frame_failed(*failure_of(error))
        return self._event(now, origin_ns, frame.image, frame.pixels, verdict)

    def _judge(self, frame: _Frame, now: float) -> Verdict:
        if frame.unusable is not None:
            raise frame.unusable
        stamp_ns, settings, judge = frame.image.stamp_ns, self._settings, self._monitor.judge
        if self._continuity.interrupted(stamp_ns, now, settings.roi, settings.rules.image_timeout):
            judge.forget()
        if frame.activations is None:
            assert frame.failure is not None
            raise frame.failure
        verdict = judge.judge(frame.activations)
        age = max(0.0, (frame.image.received_ns - stamp_ns) / 1e9)
        taken = now - age if settings.rules.stamp_tolerance else now
        self._machine.frame_judged(verdict.evidence, stamp_ns, frame.fingerprint, now, taken)
        return verdict

    def _event(self, now: float, origin_ns: int, *seen: Any) -> ReplayEvent:
        alert = self._machine.alert(now)
        self._said = now
        before, self._last = self._last, (alert.value, alert.reason.value)
        return ReplayEvent(
            self._topic, origin_ns + round(now * 1e9), alert, self._machine.evidence,
            self._machine.calibration_stale, before != self._last, *seen,
        )


def replay(
    monitor: Monitor,
    bag: Bag,
    *,
    settings: ReplaySettings | None = None,
    report: Callable[[str], None] = lambda problem: None,
) -> Iterator[ReplayEvent]:
    """Judge the images of a bag as the node does, each topic independently.

    The clock is the receive time of the recorder. Every frame gives the verdict of the live node;
    the alert may differ if transport or judging delayed frames, and no image is dropped.

    Args:
        monitor: Monitor; its network is shared by all topics.
        bag: Bag with the topics selected.
        settings: Parameters of the node.
        report: Called at the end with a description of unreadable parts of the bag, if any.

    Yields:
        One event per image, and one whenever silence between images changes the alert.
    """
    settings = settings or ReplaySettings()
    monitor.judge.forget()
    streams: dict[str, _Stream] = {}
    origin_ns = int(bag.received_ns[0]) if len(bag) else 0
    with _Pipeline(monitor, bag, settings) as pipeline:
        for frame in pipeline:
            topic = frame.image.topic
            if topic not in streams:
                own = monitor.for_camera() if streams else monitor
                streams[topic] = _Stream(topic, own, settings)
            now = (frame.image.received_ns - origin_ns) / 1e9
            for stream in streams.values():
                yield from stream.silence(now, origin_ns)
            yield streams[topic].image(frame, origin_ns)
    if pipeline.problem:
        report(pipeline.problem)


@dataclass(eq=False)
class _Frame:
    """An image in the pipeline; each stage of the pipeline adds its part."""

    image: BagImage
    pixels: DecodedImage | None = None
    unusable: Exception | None = None  # why it is skipped
    prepared: Prepared | None = None
    activations: Activations | None = None
    failure: Exception | None = None  # why judging it failed

    @property
    def fingerprint(self) -> int:
        return self.prepared.fingerprint if self.prepared else 0


class _Pipeline:
    """Two threads that feed the judge: one reads, decodes and preprocesses, one runs the network.

    Every image is a batch of its own, as in the node, so that the numbers are the same.
    """

    def __init__(self, monitor: Monitor, bag: Bag, settings: ReplaySettings) -> None:
        self.problem = ''  # unreadable parts of the bag, known at the end
        self._monitor = monitor
        self._bag = bag
        self._settings = settings
        self._reader = ThreadPoolExecutor(1, 'nav_monitor reader')
        # Asked for, torch sets the thread up with as many threads of its own as the monitor's.
        self._network = ThreadPoolExecutor(
            1, 'nav_monitor network', initializer=torch.get_num_threads)

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._network, self._reader):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._network, self._reader):
            pool.shutdown(wait=True)

    def __iter__(self) -> Iterator[_Frame]:
        """Yield the readable images in order."""
        count = len(self._bag)
        waiting = deque(self._submit(index) for index in range(min(AHEAD, count)))
        lost, first = 0, ''
        for index in range(count):
            try:
                frame = waiting.popleft().result()
            except (BagDamagedError, OSError) as error:
                lost, first = lost + 1, first or str(error)
                frame = None
            if index + AHEAD < count:
                waiting.append(self._submit(index + AHEAD))
            if frame is not None:
                yield frame
        damage = self._bag.damage
        if lost or damage:
            self.problem = (
                f'{first or f"bag {self._bag.path} is damaged: {damage}"} '
                f'({count - lost} images were read, {lost} of those found were not)'
            )

    def _submit(self, index: int) -> Future[_Frame]:
        read = self._reader.submit(self._read, index)
        return self._network.submit(self._run_network, read)

    def _read(self, index: int) -> _Frame:
        frame, settings = _Frame(self._bag[index]), self._settings
        image = frame.image
        try:
            age = (image.received_ns - image.stamp_ns) / 1e9
            require_fresh(
                age, settings.rules.stamp_tolerance, "recorder's",
                lambda: 'set stamp_tolerance to 0 in the parameters (--params) to take any stamp',
                stamp_ns=image.stamp_ns,
            )
            frame.pixels = image.decode(
                max_pixels=settings.max_pixels, exif=self._monitor.bundle.preprocess.exif
            )
            x, y, width, height = settings.roi
            region = frame.pixels.crop(x, y, width, height) if width else frame.pixels
        except Exception as error:
            frame.unusable = error
            return frame
        try:
            frame.prepared = self._monitor.prepare(
                region, least_contrast=settings.blank_contrast)
        except Exception as error:
            frame.failure = error
        return frame

    def _run_network(self, read: Future[_Frame]) -> _Frame:
        frame = read.result()
        if frame.prepared is not None:
            try:
                frame.activations = self._monitor.classifier(frame.prepared.pixels[None])
            except Exception as error:
                frame.failure = error
        return frame
