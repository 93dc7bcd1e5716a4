"""A node's log, written by a separate thread, so that no thread that publishes waits for it."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque

from rclpy.impl.rcutils_logger import RcutilsLogger

from nav_monitor_ros.errors import printable

PACKAGE = __name__.partition('.')[0]
QUEUED_LINES = 1000  # when the queue is full, new lines are dropped and counted


class QueuedLog:
    """Queue of lines for a ROS logger that never blocks.

    A log call of rclpy writes to the terminal, to a file and to ``/rosout`` before it returns, with
    the interpreter's lock held. See also ``NonBlockingOutput``. Safe to use from several threads.
    """

    def __init__(self, logger: RcutilsLogger, capacity: int = QUEUED_LINES) -> None:
        """Start the thread.

        Args:
            logger: Logger that writes the lines.
            capacity: Largest number of waiting lines.
        """
        self._logger = logger
        self._capacity = capacity
        self._lines: deque[tuple[int, str]] = deque()
        self._dropped = 0
        self._writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name='nav_monitor log', daemon=True).start()

    def debug(self, text: str) -> None:
        """Log a line for developers."""
        self.log(logging.DEBUG, text)

    def info(self, text: str) -> None:
        """Log a line about normal operation."""
        self.log(logging.INFO, text)

    def warning(self, text: str) -> None:
        """Log a line about something that needs attention."""
        self.log(logging.WARNING, text)

    def error(self, text: str) -> None:
        """Log a line about a fault."""
        self.log(logging.ERROR, text)

    def fatal(self, text: str) -> None:
        """Log the reason why the process ends."""
        self.log(logging.CRITICAL, text)

    def failure(self, what: str, error: BaseException) -> None:
        """Log an unexpected exception with its traceback.

        Args:
            what: What failed.
            error: The exception.
        """
        self.fatal(f'{what}: {type(error).__name__}: {error}')
        for part in traceback.format_exception(error):
            for line in part.rstrip().splitlines():
                self.fatal(line)

    def log(self, severity: int, text: str) -> None:
        """Log a line.

        Args:
            severity: Severity as in ``logging``.
            text: The line.
        """
        with self._changed:
            if len(self._lines) >= self._capacity:
                self._dropped += 1
                return
            self._lines.append((severity, printable(text)))
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until every line is written.

        Args:
            timeout: Longest time to wait, seconds.

        Returns:
            Whether all lines are written.
        """
        end = time.monotonic() + timeout
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._lines and not self._writing, max(0.0, end - time.monotonic())
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                self._writing = True
                severity, text = self._lines.popleft()
                dropped, self._dropped = self._dropped, 0
            try:
                if dropped:
                    self._write(logging.WARNING, f'{dropped} lines of the log were dropped')
                self._write(severity, text)
            except Exception:  # for example a closed context or a full disk; the log must continue
                pass

    def _write(self, severity: int, text: str) -> None:
        # A separate call for each severity, because rclpy refuses a call that changes it.
        if severity >= logging.CRITICAL:
            self._logger.fatal(text)
        elif severity >= logging.ERROR:
            self._logger.error(text)
        elif severity >= logging.WARNING:
            self._logger.warning(text)
        elif severity >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


class RosLogHandler(logging.Handler):
    """Handler that passes records of Python's logging to a node's log."""

    def __init__(self, log: QueuedLog) -> None:
        """Pass records to ``log``."""
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record."""
        self._log.log(record.levelno, self.format(record))


def log_to_ros(log: QueuedLog) -> None:
    """Send this package's records to a node's log, from INFO upwards, and nowhere else."""
    own = logging.getLogger(PACKAGE)
    own.handlers = [RosLogHandler(log)]
    own.propagate = False
    own.setLevel(logging.INFO)
