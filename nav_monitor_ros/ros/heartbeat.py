"""Thread that repeats a function regularly, whatever the executor does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nav_monitor_ros.ros.process.log import QueuedLog


class Heartbeat:
    """Thread that calls a function once per period of the steady clock until it is closed.

    An rclpy timer is no substitute: it fires only while the executor is free, and the executor
    that runs a node may belong to another program.
    """

    def __init__(
        self, beat: Callable[[], None], period: float, alive: Callable[[], bool], log: QueuedLog
    ) -> None:
        """Start the thread; the first call follows after one period.

        Args:
            beat: Function to call; its exceptions are logged, and it is called again.
            period: Time between two calls, seconds.
            alive: Function that returns whether to continue, such as ``Context.ok``; asked before
                each call and after an exception.
            log: Log for exceptions, once for each.
        """
        self._beat, self._period, self._alive, self._log = beat, period, alive, log
        self._closed = threading.Event()
        self._failures: set[str] = set()
        self._thread = threading.Thread(target=self._run, name='nav_monitor heartbeat', daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """End the thread; may be called repeatedly, from any thread.

        Args:
            timeout: Longest time to wait for the call in progress, seconds.

        Returns:
            Whether the thread has ended.
        """
        self._closed.set()
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.wait(self._period) and self._alive():
            try:
                self._beat()
            except BaseException as error:  # the heartbeat must continue, whatever the error
                if not self._alive():
                    return
                text = f'heartbeat: {type(error).__name__}: {error}'
                if text not in self._failures and len(self._failures) < 100:
                    self._failures.add(text)  # once, not ten times per second
                    self._log.error(text)
