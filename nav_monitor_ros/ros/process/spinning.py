"""An executor that goes on after what a message from outside does to rclpy's own callbacks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rclpy.executors import ExternalShutdownException

from nav_monitor_ros.errors import one_line

if TYPE_CHECKING:
    from nav_monitor_ros.ros.process.log import QueuedLog

MOST_FAILURES = 10  # of rclpy's own callbacks, within
WITHIN = 10.0  # seconds; one more ends the node
MOST_KINDS = 100  # of failures that are told apart in the log
_PACKAGE = Path(__file__).resolve().parents[1]


class Failures:
    """Decides which exceptions of an executor's callbacks a node outlives.

    What rclpy's own callbacks raise is of a message that they cannot take, as a ``/clock`` with
    negative seconds: the next one may be right again. What comes out of this package's code is a
    failure of the node, and so is more of the former than ``MOST_FAILURES`` within ``WITHIN``.
    """

    def __init__(self, log: QueuedLog) -> None:
        """Nothing has failed.

        Args:
            log: Gets each kind of failure once.
        """
        self._log = log
        self._times: deque[float] = deque(maxlen=MOST_FAILURES)
        self._logged: set[str] = set()

    def outlives(self, error: Exception) -> bool:
        """Return whether to go on; to be called where the exception was caught."""
        if isinstance(error, ExternalShutdownException) or _is_ours(error.__traceback__):
            return False
        now = time.monotonic()
        if len(self._times) == MOST_FAILURES and now - self._times[0] <= WITHIN:
            return False
        self._times.append(now)
        kind = f'{type(error).__name__}: {one_line(error)}'
        if kind not in self._logged and len(self._logged) < MOST_KINDS:
            self._logged.add(kind)
            self._log.error(f'ROS could not take a message or request, which is dropped: {kind}')
        return True


def spin_until(done: Callable[[], bool], spin: Callable[[], None], failures: Failures) -> None:
    """Spin again and again, through failures that the node outlives.

    Args:
        done: Whether to end; looked at before each turn.
        spin: Serves callbacks for a while.
        failures: Decides about what they raise.
    """
    while not done():
        try:
            spin()
        except Exception as error:
            if not failures.outlives(error):
                raise


def _is_ours(traceback: TracebackType | None) -> bool:
    """Return whether an exception passed through code of this package, but for its loops."""
    in_rclpy = False
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        ours = _PACKAGE in path.resolve().parents
        if in_rclpy and ours:
            return True
        in_rclpy |= not ours
        traceback = traceback.tb_next
    return False
