"""A thread for what is for people and can wait: pictures, incidents, calls of other nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nav_monitor_ros.errors import one_line
from nav_monitor_ros.ros.process.log import QueuedLog

Job = Callable[[], object]
Kind = tuple[str, str]  # whose, what


class BackgroundThread:
    """Runs jobs one after the other, of each kind the newest only.

    So a job never waits behind an older one of its kind, and what is queued is bounded by the
    number of kinds. Safe to use from several threads.
    """

    def __init__(self, log: QueuedLog) -> None:
        """Start the thread.

        Args:
            log: Gets what goes wrong in a job, once for each kind of job and error.
        """
        self._log = log
        self._jobs: dict[Kind, Job] = {}
        self._open = True
        self._changed = threading.Condition()
        self._troubles: dict[Kind, str] = {}
        self.replaced = 0  # jobs whose place a newer one of their kind took
        self._thread = threading.Thread(
            target=self._run, name='nav_monitor background', daemon=True
        )
        self._thread.start()

    def post(self, kind: Kind, job: Job) -> None:
        """Have a job done soon; it takes the place of one of its kind that has not begun."""
        with self._changed:
            if not self._open:
                return
            self.replaced += kind in self._jobs
            self._jobs[kind] = job
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Drop what has not begun, and wait for what has.

        Args:
            timeout: Seconds to wait at most.

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
            except BaseException as error:  # a thread that ends would draw and write nothing more
                text = f'{type(error).__name__}: {one_line(error)}'
                if self._troubles.get(kind) != text:  # once, not at every frame
                    self._troubles[kind] = text
                    self._log.error(': '.join(filter(None, (*kind, text))))
