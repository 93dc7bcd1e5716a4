"""Incidents: the frames before an alert is raised, written without blocking the monitor."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from nav_monitor_ros.decision.alert.reason import Alert, Reason
from nav_monitor_ros.errors import one_line
from nav_monitor_ros.runtime.incident_folder import remove_oldest, write_incident
from nav_monitor_ros.runtime.incident_frames import IncidentRing, IncidentRules, RecordedFrame

_log = logging.getLogger(__name__)


class IncidentRecorder:
    """Recorder that keeps the latest frames and writes them in a thread when the alert is raised.

    All disk failures occur in that thread: they are counted and logged once, and the thread that
    judges frames never waits. Thread-safe.
    """

    def __init__(self, bundle: Mapping[str, Any]) -> None:
        """Create an empty recorder; the thread is started with the first incident.

        Args:
            bundle: Description of the monitor for each incident; must be serializable as JSON.
        """
        self._bundle = bundle
        self._ring = IncidentRing()
        self._lock = threading.Lock()
        self._rose: Alert | None = None
        self._last: dict[Reason, float] = {}  # time of the last incident of each reason, s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None
        self._last_failure = ''
        self.written = 0
        self.failed = 0
        self.left_out = 0  # incidents within the interval, or while another was being written

    def alert_rose(self, alert: Alert) -> None:
        """Remember that the alert rose; the incident is written with ``frame`` or ``flush``."""
        self._rose = alert

    def frame(self, frame: RecordedFrame, rules: IncidentRules) -> None:
        """Add a judged frame; write the incident if it raised the alert."""
        if not rules.folder:
            self._rose = None
            return
        with self._lock:
            self._ring.add(frame, rules, important=self._rose is not None)
        self._flush(rules, frame.arrived)

    def flush(self, rules: IncidentRules, now: float) -> None:
        """Write the incident of an alert without a judged frame; must be called regularly."""
        rose = self._rose
        if rose is not None and rose.reason.value != 'ood':  # otherwise ``frame`` will be called
            self._flush(rules, now)

    def close(self, timeout: float) -> None:
        """Finish waiting incidents, in at most about ``timeout`` seconds."""
        thread = self._thread
        if thread is not None:
            try:
                self._jobs.put(None, timeout=timeout)
            except queue.Full:
                return
            thread.join(timeout)

    def _flush(self, rules: IncidentRules, now: float) -> None:
        rose, self._rose = self._rose, None
        if rose is None or not rules.folder:
            return
        if now - self._last.get(rose.reason, -math.inf) < rules.interval:
            self.left_out += 1
            return
        with self._lock:
            frames = self._ring.take()
        if not frames:
            return
        self._last[rose.reason] = now
        try:
            self._jobs.put_nowait(_Job(frames, rose, rules, datetime.now(timezone.utc)))
        except queue.Full:
            self.left_out += 1
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name='nav_monitor incidents', daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                folder = write_incident(job.frames, job.alert, job.rules, job.when, self._bundle)
            except Exception as error:  # a full disk, a folder that is gone, a broken image
                self.failed += 1
                self._log_failure(f'no incident written: {one_line(error, 500)}')
                continue
            self.written += 1
            _log.info('incident written: %s', folder)
            try:
                remove_oldest(folder.parent, job.rules.limit, folder)
            except OSError as error:
                self._log_failure(
                    f'the incidents in {folder.parent} are beyond incident_limit, and some cannot '
                    f'be removed: {one_line(error, 500)}'
                )
            else:
                self._last_failure = ''

    def _log_failure(self, failure: str) -> None:
        if failure != self._last_failure:
            _log.error(failure)
        self._last_failure = failure


@dataclass(frozen=True, eq=False)
class _Job:
    frames: Sequence[RecordedFrame]
    alert: Alert
    rules: IncidentRules
    when: datetime
