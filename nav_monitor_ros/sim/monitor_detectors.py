"""The monitor in the loop, and single scores of it with a plain threshold."""

from __future__ import annotations

import math

import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor, Observation, failure_of
from nav_monitor_ros.sim.detectors import CLEAR, UNUSUAL, ConsecutiveRule, Detector

BLANK_CONTRAST = 2.0  # gray levels, the node's default


class SharedObservations:
    """What a monitor observes in images that several detectors are given: each is judged once."""

    def __init__(self, monitor: Monitor) -> None:
        """Take a monitor.

        Raises:
            NavMonitorError: A score spans several images, so that it depends on earlier ones.
        """
        windowed = [name for name, score in monitor.judge.scores.items() if score.windowed]
        if windowed:
            raise NavMonitorError(
                f'{", ".join(windowed)} depends on earlier images and cannot be shared')
        self._monitor = monitor
        self._known: dict[int, tuple[np.ndarray, Observation | Exception]] = {}

    def forget(self) -> None:
        """Release the images."""
        self._known.clear()

    def look(self, image: np.ndarray) -> Observation:
        """Return the observation of an image, uint8 (height, width, 3) RGB, by its identity.

        Raises:
            Exception: What ``Monitor.look`` raised for it.
        """
        if id(image) not in self._known:
            found: Observation | Exception
            try:
                found = _look(self._monitor, image)
            except Exception as error:
                found = error
            # The image is kept so that no other one gets its identity.
            self._known[id(image)] = image, found
        _, found = self._known[id(image)]
        if isinstance(found, Exception):
            raise found
        return found


def _look(monitor: Monitor, image: np.ndarray) -> Observation:
    return monitor.look(
        DecodedImage(np.ascontiguousarray(image), 'rgb'), least_contrast=BLANK_CONTRAST)


class MonitorDetector(Detector):
    """The monitor with the alert's state machine, as in the node and in replay."""

    def __init__(
        self, monitor: Monitor, rules: AlertRules | None = None,
        shared: SharedObservations | None = None,
    ) -> None:
        """Take a monitor, which serves one detector at a time.

        Args:
            monitor: Judges the images.
            rules: Of the alert.
            shared: Observations of this monitor that other detectors use as well.
        """
        self._monitor = monitor
        self._rules = rules or AlertRules()
        self._shared = shared
        self.verdict: Verdict | None = None  # on the last image that could be judged
        self.restart()

    @property
    def scores(self) -> dict[str, float]:
        """Return the scores of the last image that could be judged, by name."""
        return {} if self.verdict is None else {
            name: one.score for name, one in self.verdict.scores.items()}

    def restart(self) -> None:
        """Begin a new session of the alert."""
        self._monitor.judge.forget()
        self._machine = AlertMachine(self._rules, 0.0)
        self._machine.activate(True, 0.0)

    def judge(self, image: np.ndarray, taken: float, now: float) -> Alert:
        """Return the alert after an image."""
        self._machine.image_arrived(now)
        try:
            seen = self._shared.look(image) if self._shared else _look(self._monitor, image)
        except Exception as error:
            self._machine.frame_failed(*failure_of(error))
        else:
            self.verdict = seen.verdict
            self._machine.frame_judged(
                seen.verdict.evidence, round(taken * 1e9), seen.fingerprint, now, taken)
        return self._machine.alert(now)


class ScoreDetector(Detector):
    """One score of a monitor with a threshold, as it is often done: several images in a row."""

    def __init__(
        self, monitor: Monitor, score: str, threshold: float,
        shared: SharedObservations | None = None,
    ) -> None:
        """Take a monitor that computes the score; see ``Monitor``'s argument ``also``."""
        self._monitor = monitor
        self._score = score
        self._threshold = threshold
        self._shared = shared
        self.restart()

    def restart(self) -> None:
        """Forget earlier images."""
        self._monitor.judge.forget()
        self._rule = ConsecutiveRule(self._threshold)

    def judge(self, image: np.ndarray, taken: float, now: float) -> Alert:
        """Return the alert after an image; one that cannot be judged counts as unusual."""
        try:
            seen = self._shared.look(image) if self._shared else _look(self._monitor, image)
            score = seen.verdict.scores[self._score].score
        except Exception:
            score = math.inf
        return UNUSUAL if self._rule.update(score) else CLEAR
