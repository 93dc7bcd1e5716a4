"""The thread that judges images."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from nav_monitor_ros.ros.monitor.camera_pipeline import CameraPipeline
from nav_monitor_ros.ros.monitor.latest_frame_queue import LatestFrameQueue, QueuedFrame
from nav_monitor_ros.runtime.monitor import Monitor, observe_batch


class Worker:
    """Thread that repeatedly takes the newest frame of each camera and judges them together."""

    def __init__(
        self, monitor: Monitor, queue: LatestFrameQueue, pipelines: Sequence[CameraPipeline]
    ) -> None:
        """Prepare the worker; ``start`` starts its thread.

        Args:
            monitor: Monitor with the network, which only this thread uses.
            queue: Queue of frames.
            pipelines: Pipeline for each slot of the queue; their monitors share the network.
        """
        self.pipelines = tuple(pipelines)
        self._monitor = monitor
        self._queue = queue
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it has been started already."""
        with self._lock:
            if self._thread is None:
                self._begin()

    def revive(self) -> bool:
        """Start a new thread if the previous one has ended unexpectedly.

        Returns:
            Whether it had.
        """
        with self._lock:
            died = self._thread is not None and not self._thread.is_alive()
            if died and not self._stopped.is_set():
                self._begin()
            return died and not self._stopped.is_set()

    def stop(self, timeout: float) -> bool:
        """Stop the thread.

        Args:
            timeout: Longest wait for the frames that it is judging, seconds.

        Returns:
            Whether the thread ended. If not, it is stuck in the network; its later results are not
            published, and its monitor must not be used again.
        """
        with self._lock:
            self._stopped.set()
            thread = self._thread
        self._queue.close()
        if thread is None:
            return True
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _begin(self) -> None:
        # A thread that has not been started counts as ended, so it must not be visible before.
        thread = threading.Thread(target=self._run, name='nav_monitor worker', daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        while (taken := self._queue.take()) is not None:
            unanswered = dict(taken)
            if len(self.pipelines) > 1:
                for number in unanswered:
                    rate = self.pipelines[number].values['camera_rate']
                    self._queue.slots[number].interval = 1 / rate
            try:
                self._judge(unanswered)
            except BaseException as error:  # foreign code may raise SystemExit, too
                for number in [*unanswered]:
                    self._fail(number, unanswered, error)

    def _judge(self, unanswered: dict[int, QueuedFrame]) -> None:
        """Judge at most one frame per camera: first all alerts, then all pictures.

        Args:
            unanswered: Frames by the number of their camera; each is removed once its result has
                been passed to its camera's alert.
        """
        ready = []
        for number, frame in [*unanswered.items()]:
            try:
                ready.append((number, *self.pipelines[number].prepare(frame)))
            except Exception as error:
                self._fail(number, unanswered, error)
        if not ready:
            return
        self._tap_layer([self.pipelines[number] for number, _, _ in ready])
        outcomes = observe_batch(
            [(self.pipelines[number].monitor, prepared) for number, _, prepared in ready]
        )
        judged = []
        for (number, image, _), outcome in zip(ready, outcomes, strict=True):
            frame, pipeline = unanswered[number], self.pipelines[number]
            if isinstance(outcome, BaseException):
                self._fail(number, unanswered, outcome)
                continue
            try:
                alert = pipeline.publish(frame, outcome, self._stopped)
            except BaseException as error:
                self._fail(number, unanswered, error)
                continue
            if alert is None:
                return
            del unanswered[number]
            judged.append((pipeline, frame, image, outcome, alert))
        for pipeline, frame, image, observation, alert in judged:
            try:
                pipeline.record(frame, image, observation, alert)
            except Exception as error:
                if not self._stopped.is_set():
                    pipeline.fail(frame, error)

    def _tap_layer(self, pipelines: Sequence[CameraPipeline]) -> None:
        """Let the network keep the maps for the next pictures, if any are due."""
        due = any(pipeline.outputs.views.need_maps() for pipeline in pipelines)
        layer = pipelines[0].values['activation_layer']  # the same for all cameras
        self._monitor.show_layer(layer if due else None)

    def _fail(
        self, number: int, unanswered: dict[int, QueuedFrame], error: BaseException
    ) -> None:
        frame = unanswered.pop(number)
        if not self._stopped.is_set():
            self.pipelines[number].fail(frame, error)
