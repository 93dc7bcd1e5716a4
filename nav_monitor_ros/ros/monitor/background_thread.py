"""Thread for work that is not urgent: pictures, incidents and calls of other nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.ros.process.log import QueuedLog

Job = Callable[[], object]
Kind = tuple[str, str]  # camera, work


class BackgroundThread:
    """Thread that runs jobs one after another, and only the newest job of each kind.

    A job therefore never waits for an older one of its kind, and the number of queued jobs is
    bounded by the number of kinds. Thread-safe.
    """

    def __init__(self, log: QueuedLog) -> None:
        """Start the thread.

        Args:
            log: Log for errors in jobs, once for each kind of job and error.
        """
        self._log = log
        self._jobs: dict[Kind, Job] = {}
        self._open = True
        self._changed = threading.Condition()
        self._troubles: dict[Kind, str] = {}
        self.replaced = 0  # jobs that a newer one of their kind has replaced
        self._thread = threading.Thread(
            target=self._run, name='nav_monitor background', daemon=True
        )
        self._thread.start()

    def post(self, kind: Kind, job: Job) -> None:
        """Queue a job; it replaces a queued job of its kind that has not started."""
        with self._changed:
            if not self._open:
                return
            self.replaced += kind in self._jobs
            self._jobs[kind] = job
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Discard queued jobs, and wait for the job in progress.

        Args:
            timeout: Longest time to wait, seconds.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._open = False
            self._jobs.clear()
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or not self._open)
                if not self._open:
                    return
                kind = next(iter(self._jobs))
                job = self._jobs.pop(kind)
            try:
                job()
            except BaseException as error:  # otherwise the thread would end, with all later jobs
                text = f'{type(error).__name__}: {one_line(error)}'
                if self._troubles.get(kind) != text:  # once, not for every frame
                    self._troubles[kind] = text
                    self._log.error(': '.join(filter(None, (*kind, text))))
