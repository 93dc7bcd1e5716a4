"""The monitor in the loop, and single scores of it with a plain threshold."""

from __future__ import annotations

import math

import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor, failure_of
from nav_monitor_ros.sim.detectors import CLEAR, UNUSUAL, ConsecutiveRule, Detector

BLANK_CONTRAST = 2.0  # gray levels, the node's default


class MonitorDetector(Detector):
    """The monitor with the alert's state machine, as in the node and in replay."""

    def __init__(self, monitor: Monitor, rules: AlertRules | None = None) -> None:
        """Take a monitor, which serves one detector at a time."""
        self._monitor = monitor
        self._rules = rules or AlertRules()
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
            seen = self._monitor.look(
                DecodedImage(np.ascontiguousarray(image), 'rgb'), least_contrast=BLANK_CONTRAST)
        except Exception as error:
            self._machine.frame_failed(*failure_of(error))
        else:
            self.verdict = seen.verdict
            self._machine.frame_judged(
                seen.verdict.evidence, round(taken * 1e9), seen.fingerprint, now, taken)
        return self._machine.alert(now)


class ScoreDetector(Detector):
    """One score of a monitor with a threshold, as it is often done: several images in a row."""

    def __init__(self, monitor: Monitor, score: str, threshold: float) -> None:
        """Take a monitor that computes the score; see ``Monitor``'s argument ``also``."""
        self._monitor = monitor
        self._score = score
        self._threshold = threshold
        self.restart()

    def restart(self) -> None:
        """Forget earlier images."""
        self._monitor.judge.forget()
        self._rule = ConsecutiveRule(self._threshold)

    def judge(self, image: np.ndarray, taken: float, now: float) -> Alert:
        """Return the alert after an image; one that cannot be judged counts as unusual."""
        try:
            seen = self._monitor.look(DecodedImage(np.ascontiguousarray(image), 'rgb'))
            score = seen.verdict.scores[self._score].score
        except Exception:
            score = math.inf
        return UNUSUAL if self._rule.update(score) else CLEAR
