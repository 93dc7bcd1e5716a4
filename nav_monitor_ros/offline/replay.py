"""Recorded images through the node's own core, without DDS, as fast as the network goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from nav_monitor_ros.decision.alert import AlertMachine, AlertRules
from nav_monitor_ros.decision.verdict import Alert, Verdict
from nav_monitor_ros.monitor import Monitor, Neighbours, failure_of, require_fresh
from nav_monitor_ros.offline.bags import MAX_PIXELS, Bag, BagDamagedError, BagImage
from nav_monitor_ros.perception.image import RawImage

AHEAD = 8  # images that are read and decoded while the network runs
_NOTICED = 1e-3  # seconds after which silence is noticed, once it is too long


@dataclass(frozen=True)
class ReplaySettings:
    """The node's parameters that a recording depends on."""

    rules: AlertRules = field(default_factory=AlertRules)
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)  # x, y, width, height; pixels; 0 for all
    max_pixels: int = MAX_PIXELS
    blank_contrast: float = 2.0  # gray levels


@dataclass(frozen=True, eq=False)
class ReplayEvent:
    """What the monitor would have said at one moment of the recording."""

    topic: str
    time_ns: int  # on the recorder's clock
    alert: Alert
    evidence: float  # how far the stream is on its way to out-of-distribution, in [0, 1]
    calibration_stale: str  # how the camera's world has left the calibration's, or nothing
    changed: bool  # whether the alert is another one than before
    image: BagImage | None = None  # None where the silence between images was noticed
    pixels: RawImage | None = None  # None where the message is no image
    verdict: Verdict | None = None  # None where the image could not be judged


class _Stream:
    """One camera of the recording: its evidence, its alert."""

    def __init__(self, topic: str, monitor: Monitor, settings: ReplaySettings) -> None:
        self._topic = topic
        self._monitor = monitor
        self._settings = settings
        self._machine = AlertMachine(settings.rules, 0.0)
        self._machine.activate(True, 0.0)
        self._neighbours = Neighbours()
        self._last: tuple[bool, str] | None = None
        self._arrived = 0.0

    def silence(self, now: float, origin_ns: int) -> Iterator[ReplayEvent]:
        """Yield what the node would have said before ``now`` for want of an image."""
        noticed = self._arrived + self._settings.rules.image_timeout + _NOTICED
        if self._last is not None and noticed < now:
            event = self._event(noticed, origin_ns)
            if event.changed:
                yield event

    def image(self, image: BagImage, pixels: Future[RawImage], origin_ns: int) -> ReplayEvent:
        """Return what the node would have said of an image."""
        now = (image.received_ns - origin_ns) / 1e9
        self._arrived = now
        self._machine.image_arrived(now)
        decoded, verdict = None, None
        try:
            age = (image.received_ns - image.stamp_ns) / 1e9
            require_fresh(age, self._settings.rules.stamp_tolerance)
            decoded = pixels.result()
            verdict = self._judge(image, decoded, now)
        except Exception as error:
            self._machine.failed(*failure_of(error))
        return self._event(now, origin_ns, image, decoded, verdict)

    def _judge(self, image: BagImage, pixels: RawImage, now: float) -> Verdict:
        settings, monitor = self._settings, self._monitor
        x, y, width, height = settings.roi
        region = pixels.crop(x, y, width, height) if width else pixels
        if self._neighbours.broken(
            image.stamp_ns, now, settings.roi, settings.rules.image_timeout
        ):
            monitor.judge.forget()
        seen = monitor.look(region, least_contrast=settings.blank_contrast)
        self._machine.judged(seen.verdict.evidence, image.stamp_ns, seen.fingerprint, now)
        return seen.verdict

    def _event(self, now: float, origin_ns: int, *seen: Any) -> ReplayEvent:
        alert = self._machine.alert(now)
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
    told: Callable[[str], None] = lambda problem: None,
) -> Iterator[ReplayEvent]:
    """Judge the images of a bag as the node does, each topic by itself.

    Time is that at which the recorder received each image. Every frame gives the verdict of the
    live node; the alert differs from it where frames took longer to travel or to judge than
    between the recorder's clock ticks, and never by an image that the node would have dropped.

    Args:
        monitor: Judges; its network serves all topics.
        bag: With the topics selected.
        settings: The node's parameters.
        told: Is told at the end what of the bag could not be read, if anything.

    Yields:
        One event for each image, and one wherever silence between images changes the alert.
    """
    settings = settings or ReplaySettings()
    monitor.judge.forget()
    streams: dict[str, _Stream] = {}
    origin_ns = int(bag.received_ns[0]) if len(bag) else 0
    with _Ahead(bag, settings.max_pixels) as ahead:
        for image, pixels in ahead:
            if image.topic not in streams:
                own = monitor.twin() if streams else monitor
                streams[image.topic] = _Stream(image.topic, own, settings)
            now = (image.received_ns - origin_ns) / 1e9
            for stream in streams.values():
                yield from stream.silence(now, origin_ns)
            yield streams[image.topic].image(image, pixels, origin_ns)
    if ahead.problem:
        told(ahead.problem)


class _Ahead:
    """Reads and decodes images on another thread while the network runs on this one."""

    def __init__(self, bag: Bag, max_pixels: int) -> None:
        self.problem = ''  # what could not be read, known at the end
        self._bag = bag
        self._max_pixels = max_pixels
        self._room = threading.Semaphore(AHEAD)
        self._stopped = False
        self._pool = ThreadPoolExecutor(1, 'nav_monitor reader')

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._room.release()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[BagImage, Future[RawImage]]]:
        """Yield images in their order, each with its pixels to come."""
        waiting = [self._pool.submit(self._next, index) for index in range(min(AHEAD, self._count))]
        lost, first = 0, ''
        for index in range(self._count):
            following = index + AHEAD
            try:
                read = waiting.pop(0).result()
            except (BagDamagedError, OSError) as error:
                lost, first = lost + 1, first or str(error)
                read = None
            if following < self._count:
                waiting.append(self._pool.submit(self._next, following))
            if read is not None:
                yield read
        damage = self._bag.damage
        if lost or damage:
            self.problem = (
                f'{first or f"bag {self._bag.path} is damaged: {damage}"} '
                f'({self._count - lost} images were read, {lost} of those found were not)'
            )

    @property
    def _count(self) -> int:
        return len(self._bag)

    def _next(self, index: int) -> tuple[BagImage, Future[RawImage]]:
        image, pixels = self._bag[index], Future()  # type: ignore[var-annotated]
        try:
            pixels.set_result(image.decode(max_pixels=self._max_pixels))
        except Exception as error:
            pixels.set_exception(error)
        return image, pixels
