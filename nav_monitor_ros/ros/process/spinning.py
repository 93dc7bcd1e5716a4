"""Spinning that continues after received messages cause errors in rclpy's own callbacks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from nav_monitor_ros.errors import one_line

if TYPE_CHECKING:
    from rclpy.node import Node

    from nav_monitor_ros.ros.process.log import QueuedLog

MOST_FAILURES = 10  # largest number of failures in rclpy's own callbacks within ``WITHIN``
WITHIN = 10.0  # seconds
MOST_KINDS = 100  # largest number of kinds of failures that are logged
_PACKAGE = Path(__file__).resolve().parents[1]


class Failures:
    """Decides which exceptions from an executor's callbacks a node survives.

    rclpy's own callbacks raise if they cannot handle a message, such as a ``/clock`` with negative
    seconds; the next message may be valid again. An exception from this package's code is a failure
    of the node, and so are more than ``MOST_FAILURES`` of the former within ``WITHIN``.
    """

    def __init__(self, log: QueuedLog) -> None:
        """Start without failures.

        Args:
            log: Log for each kind of failure, once.
        """
        self._log = log
        self._times: deque[float] = deque(maxlen=MOST_FAILURES)
        self._logged: set[str] = set()

    def outlives(self, error: Exception) -> bool:
        """Return whether to continue; must be called where the exception was caught."""
        if isinstance(error, ExternalShutdownException) or _is_ours(error.__traceback__):
            return False
        now = time.monotonic()
        if len(self._times) == MOST_FAILURES and now - self._times[0] <= WITHIN:
            return False
        self._times.append(now)
        kind = f'{type(error).__name__}: {one_line(error)}'
        if kind not in self._logged and len(self._logged) < MOST_KINDS:
            self._logged.add(kind)
            self._log.error(f'ROS dropped a message or request that it could not handle: {kind}')
        return True


def spin_until(done: Callable[[], bool], spin: Callable[[], None], failures: Failures) -> None:
    """Spin repeatedly, despite failures that the node survives.

    Args:
        done: Function that returns whether to end; called before each turn.
        spin: Function that serves callbacks for a while.
        failures: Decides whether to continue after an exception.
    """
    while not done():
        try:
            spin()
        except Exception as error:
            if not failures.outlives(error):
                raise


def serve(
    node: Node, done: Callable[[], bool], log: QueuedLog,
    finish: Callable[[], object] = lambda: None,
) -> None:
    """Serve a node's callbacks on this thread.

    Args:
        node: The node.
        done: Function that returns whether to end.
        log: Log of the messages and requests that rclpy could not handle.
        finish: Called first when serving ends, also if the node has failed.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        spin_until(done, lambda: executor.spin_once(timeout_sec=0.1), Failures(log))
    except ExternalShutdownException:
        pass
    finally:
        finish()
    executor.shutdown()


def _is_ours(traceback: TracebackType | None) -> bool:
    """Return whether an exception passed through this package's code, other than its loops."""
    in_rclpy = False
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        ours = _PACKAGE in path.resolve().parents
        if in_rclpy and ours:
            return True
        in_rclpy |= not ours
        traceback = traceback.tb_next
    return False
