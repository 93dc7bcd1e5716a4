"""Connection to a node in another process that sends images and times the replies."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import Image

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.interrupt import UndoOnInterrupt, raise_if_requested
from nav_monitor_ros.ros.messages import byte_array
from nav_monitor_ros.ros.process.domain import take_domain
from nav_monitor_ros.ros.qos import reliable

_STAMP = struct.Struct('<iI')  # stamp of a message with a header, after 4 bytes of CDR
_LOG_LINES = 5
_LONGEST = 40.0  # seconds within which two replies must arrive


class Link:
    """Camera in this process and one process that replies to it, in an exclusive ROS domain.

    Both processes use the middleware profile of the environment, or the middleware's defaults.
    """

    def __init__(
        self,
        command: Sequence[str],
        reply: type,
        topic: str,
        images: np.ndarray,
        *,
        log: Path,
    ) -> None:
        """Start the process.

        Args:
            command: Command line of the process.
            reply: Message type of the reply to each image; its first field is the image's header.
            topic: Topic of the replies.
            images: Images that are sent in turn as bgr8, uint8 (N, H, W, 3).
            log: File for the output of the process.
        """
        self._domain = take_domain()
        self.started = time.monotonic()
        self._log = log
        with log.open('wb') as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, **self._domain.environment},
            )
        self._unfinished = UndoOnInterrupt(self._process.kill)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=self._domain.number)
        self.node = rclpy.create_node('benchmark', context=self.context)
        self._messages = [_message(image) for image in images]
        self._sent: dict[int, float] = {}  # stamp in nanoseconds -> steady seconds
        self._replies: list[tuple[int, float, bytes]] = []  # stamp, steady seconds, message
        self._publisher = self.node.create_publisher(Image, 'image', reliable(1))
        self.node.create_subscription(reply, topic, self._hear, reliable(10), raw=True)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Process ID."""
        return self._process.pid

    def wait(self, condition: Callable[[], Any], timeout: float, what: str) -> Any:
        """Wait until a condition is true, and return its value.

        Raises:
            NavMonitorError: The condition stays false, or the process ends.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            raise_if_requested()
            value = condition()
            if value:
                return value
            if self._process.poll() is not None:
                raise NavMonitorError(f'the process ended before {what}: {self._last_lines()}')
            time.sleep(0.005)
        raise NavMonitorError(f'waited {timeout:.0f} s for {what}: {self._last_lines()}')

    def wait_ready(self, timeout: float) -> None:
        """Send images until the process replies.

        Raises:
            NavMonitorError: The process does not reply in time.
        """

        def answered() -> bool:
            self._publish(0)
            time.sleep(0.1)
            return len(self._replies) >= 3

        self.wait(answered, timeout, 'a reply to an image')

    def feed(self, rate: float, seconds: float, *, settle: float = 0.5) -> Feed:
        """Send images at a given rate and return the replies.

        Args:
            rate: Images per second.
            seconds: Duration of the measurement.
            settle: Duration before the measurement that is not counted, seconds.
        """
        start = time.monotonic()
        self._sent.clear()
        self._replies.clear()
        number, due = 0, start
        while due < start + settle + seconds:
            raise_if_requested()
            now = time.monotonic()
            if now < due:
                time.sleep(due - now)
            self._publish(number)
            number += 1
            due = max(due + 1 / rate, time.monotonic() - 1 / rate)  # no burst after a pause
        time.sleep(min(0.5, 10 / rate))
        counted = start + settle
        sent = {stamp: when for stamp, when in list(self._sent.items()) if when >= counted}
        replies = [r for r in list(self._replies) if r[0] in sent]
        return Feed(
            len(sent) / seconds,
            np.array([when for _, when, _ in replies if when <= counted + seconds]),
            np.array([when - sent[stamp] for stamp, when, _ in replies]),
            [raw for _, _, raw in replies],
        )

    def fastest(self, *, seconds: float, first: float, limit: float = 1000.0) -> Feed:
        """Increase the rate until the process can no longer keep up; return the best result.

        Args:
            seconds: Duration for each rate.
            first: Initial rate, images per second.
            limit: Highest rate to try.

        Raises:
            NavMonitorError: The process replies too seldom to measure a rate.
        """
        best = self.feed(first, seconds)
        while not best.rate:  # a busy machine
            seconds *= 2
            if seconds > _LONGEST:
                raise NavMonitorError(
                    f'almost no replies in {seconds / 2:.0f} s; is the machine busy?')
            best = self.feed(first, seconds)
        rate = first
        while best.rate >= 0.9 * rate and rate < limit:
            rate *= 2
            best = max(best, self.feed(rate, seconds), key=lambda feed: feed.rate)
        # Dropping many excess images also costs the process time, so the last test has few of them.
        return max(best, self.feed(1.2 * best.rate, seconds), key=lambda feed: feed.rate)

    def close(self) -> None:
        """Terminate the process and destroy the camera."""
        self._process.terminate()  # it may have been started with SIGINT ignored
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._unfinished.close()
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        self._domain.close()

    def _publish(self, number: int) -> None:
        message = self._messages[number % len(self._messages)]
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        self._sent[stamp] = time.monotonic()
        self._publisher.publish(message)

    def _hear(self, raw: bytes) -> None:
        seconds, nanoseconds = _STAMP.unpack_from(raw, 4)
        stamp = seconds * 1_000_000_000 + nanoseconds
        if stamp in self._sent:
            self._replies.append((stamp, time.monotonic(), raw))

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def _last_lines(self) -> str:
        lines = self._log.read_text(errors='replace').splitlines()
        return ' | '.join(lines[-_LOG_LINES:]) or 'it printed nothing'


class Feed:
    """Replies of a process to images at one rate."""

    def __init__(
        self, sent_rate: float, times: np.ndarray, latencies: np.ndarray, raw: list[bytes]
    ) -> None:
        """Compute the rate.

        Args:
            sent_rate: Rate of the images actually sent, images per second.
            times: Arrival times of replies while images were sent, steady seconds, (N,).
            latencies: Seconds from sending to reply, for these and later replies.
            raw: Serialized replies.
        """
        self.sent_rate = sent_rate
        self.latencies = latencies
        self.raw = raw
        span = times[-1] - times[0] if len(times) > 1 else 0.0
        self.rate = (len(times) - 1) / span if span > 0 else 0.0  # replies per second


def python_module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package as a node."""
    return [sys.executable, '-m', name, '--ros-args', *arguments]


def _message(image: np.ndarray) -> Image:
    rows, columns = image.shape[:2]
    message = Image(height=rows, width=columns, encoding='bgr8', step=3 * columns)
    message.header.frame_id = 'benchmark'
    message.data = byte_array(np.ascontiguousarray(image))
    return message
