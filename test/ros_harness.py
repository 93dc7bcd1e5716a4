"""Real processes over DDS for the tests, and a plain rclpy node that records their messages."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray
from processes import with_default_signals
from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from warm_start import NODES, Starter

from nav_monitor_ros.ros.process.domain import take_domain
from nav_monitor_ros.ros.process.transport import use_udp_only

CLOSED = -1  # used instead of a file descriptor
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def executable(name: str) -> str:
    """Return the path that ``ros2 run nav_monitor_ros NAME`` would run."""
    return str(Path(get_package_prefix('nav_monitor_ros')) / 'lib' / 'nav_monitor_ros' / name)


@contextmanager
def without_shared_memory() -> Iterator[None]:
    """Create participants that use UDP only; processes that are started later are not affected."""
    before = dict(os.environ)
    use_udp_only()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@cache
def starter() -> Starter:
    """Return the process of which this one's nodes are forks."""
    return Starter(NODES)


class Graph:
    """Processes in an exclusive ROS domain, and a node that records their messages."""

    def __init__(self, logs: Path, *, warm: bool = True, udp_only: bool = False) -> None:
        """Start the listener.

        Args:
            logs: Folder of the processes' output.
            warm: Whether nodes may be forks of a process that is running; where times are
                measured, they are not.
            udp_only: Whether the listener uses no shared memory, so that a process that is stopped
                or killed cannot block it.
        """
        self._warm = warm and 'NAV_MONITOR_FAULTS' not in os.environ
        self.domain = take_domain()
        self._logs = logs
        self._processes: list[subprocess.Popen] = []
        self._clients: dict[str, Any] = {}
        self.context = rclpy.Context()
        with without_shared_memory() if udp_only else nullcontext():
            rclpy.init(context=self.context, domain_id=self.domain.number)
            self.node = rclpy.create_node('listener', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        # Publishes commands. A node that also subscribed to the gate's output would form a loop.
        self.driver = rclpy.create_node('driver', context=self.context)
        self._executor.add_node(self.driver)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.times: dict[str, list[float]] = defaultdict(list)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def start(
        self,
        name: str,
        *arguments: str,
        env: dict[str, str] | None = None,
        output: int | None = None,
    ):
        """Start an executable of the package with ``--ros-args`` and the given arguments.

        Its output is written to the file descriptor ``output``, by default to its own log; with
        ``CLOSED``, it starts with its standard output closed.
        """
        number = len(self._processes)
        log = (self._logs / f'{number}_{name}.log').open('wb')
        environment = {
            **os.environ, **self.domain.environment, 'OMP_NUM_THREADS': '1', **(env or {}),
        }
        program, options = executable(name), ('--ros-args', *arguments)
        written = log.fileno() if output in (None, CLOSED) else output
        if self._warm and output != CLOSED and starter().can_start(program, environment):
            process = starter().start(program, options, environment, written)
        else:
            command = (program, *options)
            if output == CLOSED:
                command = ('sh', '-c', 'exec "$0" "$@" >&-', *command)
            process = subprocess.Popen(
                with_default_signals(*command), stdin=subprocess.DEVNULL, stdout=written,
                stderr=subprocess.STDOUT, env=environment,
            )
        process.log = Path(log.name)
        log.close()
        self._processes.append(process)
        return process

    def start_monitor(
        self, *arguments: str, env: dict[str, str] | None = None, output: int | None = None
    ):
        """Start the monitor and record its messages."""
        self.listen(Bool, '/ood_alert', LATCHED)
        self.listen(DiagnosticArray, '/nav_monitor/ood_status', LATCHED)
        self.listen(DiagnosticArray, '/diagnostics', QoSProfile(depth=10))
        return self.start('monitor', *arguments, env=env, output=output)

    def start_camera(self, source: str, *arguments: str):
        """Start a camera that plays a source."""
        return self.start('camera', '-p', f'source:={source}', *arguments)

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> None:
        """Record every message of a topic, with its time of arrival."""

        def keep(message: Any) -> None:
            self.heard[topic].append(message)
            self.times[topic].append(time.monotonic())

        self.node.create_subscription(kind, topic, keep, qos)

    def client(self, kind: type, service: str, timeout: float = 10.0) -> Any:
        """Return the client of a service once the service is available.

        Tests that time a call request the client first, because discovering a service takes some
        tenths of a second.
        """
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        assert client.wait_for_service(timeout), f'{service} is not there'
        return client

    def call(self, kind: type, service: str, request: Any, timeout: float = 10.0) -> Any:
        """Call a service and return its response."""
        future = self.client(kind, service, timeout).call_async(request)
        self.wait(future.done, timeout, f'an answer of {service}')
        return future.result()

    def wait(self, condition: Callable[[], Any], timeout: float, what: str) -> Any:
        """Return the condition's value once it is true; fail after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.01)
        raise AssertionError(f'waited {timeout} s for {what}\n{self.describe()}')

    def wait_alert(self, value: bool, timeout: float) -> float:
        """Wait until the newest alert is ``value``; return its time of arrival."""
        self.wait(
            lambda: self.alerts and self.alerts[-1] is value, timeout, f'ood_alert {value}'
        )
        return self.times['/ood_alert'][-1]

    def wait_reason(self, reason: str, timeout: float) -> DiagnosticArray:
        """Wait for a new status with this reason and return it."""

        def look() -> DiagnosticArray | None:
            newest = self.statuses[-1] if self.statuses else None
            return newest if newest and newest.status[0].message == reason else None

        return self.wait(look, timeout, f'reason {reason}')

    def wait_judged(self, timeout: float = 10.0) -> dict[str, str]:
        """Wait until the newest status is about a judged frame; return its values.

        Status and alert are published on different topics, so that the status may arrive later.
        """

        def look() -> dict[str, str] | None:
            newest = values(self.statuses[-1].status[0]) if self.statuses else {}
            return newest if 'class' in newest else None

        return self.wait(look, timeout, 'the status of a judged frame')

    def wait_trusted(self, timeout: float = 10.0) -> None:
        """Wait until both alert and reason report that frames are judged in-distribution."""
        self.wait(
            lambda: self.alerts and self.alerts[-1] is False
            and self.reason in ('in_distribution', 'suspect'),
            timeout, 'a False alert and its reason',
        )

    def wait_diagnostic(self, part: str, text: str, timeout: float) -> Any:
        """Wait until the newest /diagnostics of a part contains a text; return that status."""

        def look() -> Any:
            for message in reversed(self.heard['/diagnostics'][-2:]):
                for status in message.status:
                    if status.name.endswith(f': {part}') and text in status.message:
                        return status
            return None

        return self.wait(look, timeout, f'/diagnostics {part} with "{text}"')

    @property
    def alerts(self) -> list[bool]:
        """Return all received alerts, oldest first."""
        return [message.data for message in self.heard['/ood_alert']]

    @property
    def statuses(self) -> list[DiagnosticArray]:
        """Return all received statuses, oldest first."""
        return self.heard['/nav_monitor/ood_status']

    @property
    def reason(self) -> str:
        """Return the reason of the newest status, or ''."""
        return self.statuses[-1].status[0].message if self.statuses else ''

    def describe(self) -> str:
        """Return the newest messages and logs, for the message of a failed test."""
        lines = [f'alerts: {self.alerts[-5:]}']
        lines += [
            f'{s.status[0].message}: {values(s.status[0]).get("detail", "")}'
            for s in self.statuses[-3:]
        ]
        for message in self.heard['/diagnostics'][-1:]:
            lines += [f'{status.name}: {status.message}' for status in message.status]
        for process in self._processes:
            text = process.log.read_text(errors='replace')[-1500:]
            lines.append(f'--- {process.log.name} (status {process.poll()})\n{text}')
        return '\n'.join(lines)

    def stop(self) -> None:
        """Stop all processes and the listener."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        self.driver.destroy_node()
        rclpy.shutdown(context=self.context)
        self.domain.close()

    def _spin(self) -> None:
        while True:
            try:
                self._executor.spin()
            except ExternalShutdownException:
                pass
            except InvalidHandle:
                continue  # a callback used a publisher that the test has destroyed
            return


def values(status: Any) -> dict[str, str]:
    """Return a diagnostic status's values."""
    return {pair.key: pair.value for pair in status.values}


def stamp_ns(header: Any) -> int:
    """Return a header's stamp in nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def rgb_message(pixels: Any, stamp: int, *, frame_id: str = 'test_camera') -> Image:
    """Return uint8 (H, W, 3) pixels as an rgb8 image with a stamp in nanoseconds."""
    message = Image(
        height=pixels.shape[0], width=pixels.shape[1], encoding='rgb8', step=3 * pixels.shape[1]
    )
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    message.header.frame_id = frame_id
    message.data = pixels.tobytes()
    return message
