"""What decides on the alert in the loop: the interface, nothing, and colours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert, Reason, State

CLEAR = Alert(False, State.OK, Reason.IN_DISTRIBUTION)
UNUSUAL = Alert(True, State.OOD, Reason.OOD)


class Detector(ABC):
    """Turns the images of one drive into alerts."""

    @abstractmethod
    def restart(self) -> None:
        """Forget everything, before the first image of a drive."""

    @abstractmethod
    def judge(self, image: np.ndarray, taken: float, now: float) -> Alert:
        """Return the alert after an image.

        Args:
            image: uint8 (height, width, 3) RGB.
            taken: When it was taken, s.
            now: When its verdict is there, s.
        """


class NoDetector(Detector):
    """Never raises the alert: a robot without a monitor."""

    def restart(self) -> None:
        """Do nothing."""

    def judge(self, image: np.ndarray, taken: float, now: float) -> Alert:
        """Return False."""
        return CLEAR


@dataclass
class ConsecutiveRule:
    """Alert after so many images in a row above a threshold, until as many are not."""

    threshold: float
    enter: int = 3  # images in a row
    leave: int = 5  # images in a row
    alert: bool = False
    _run: int = 0

    def update(self, score: float) -> bool:
        """Take the score of an image (larger = more unusual) and return the alert."""
        above = score > self.threshold
        self._run = self._run + 1 if above != self.alert else 0
        if self._run >= (self.leave if self.alert else self.enter):
            self.alert, self._run = not self.alert, 0
        return self.alert


class ColorHistogram:
    """Distance of an image's colours from the nearest of the training images' colours.

    Score: smallest Hellinger distance of the histograms of hue and saturation. It serves as a check
    of the simulator: if it found the unknown objects, colour would give them away.
    """

    _BINS = (12, 6)

    def __init__(self, images: np.ndarray) -> None:
        """Store the histograms of training images, uint8 (N, height, width, 3) RGB."""
        self._roots = np.stack([self._root(image) for image in images])

    def score(self, image: np.ndarray) -> float:
        """Return the score of one image, in [0, 1]."""
        overlap = float((self._roots @ self._root(image)).max())
        return float(np.sqrt(max(0.0, 1 - overlap)))

    def _root(self, image: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
        counts = cv2.calcHist([hsv], [0, 1], None, list(self._BINS), [0, 180, 0, 256])
        return np.sqrt(counts.reshape(-1) / counts.sum())


class ColorDetector(Detector):
    """``ColorHistogram`` with a threshold."""

    def __init__(self, colors: ColorHistogram, threshold: float) -> None:
        """Take the training images' histograms and a threshold."""
        self._colors = colors
        self._threshold = threshold
        self.restart()

    def restart(self) -> None:
        """Forget earlier images."""
        self._rule = ConsecutiveRule(self._threshold)

    def judge(self, image: np.ndarray, taken: float, now: float) -> Alert:
        """Return the alert after an image."""
        return UNUSUAL if self._rule.update(self._colors.score(image)) else CLEAR


class AlertHistory:
    """The alerts of the last seconds, to tell whether there was any."""

    def __init__(self, seconds: float) -> None:
        """Keep so many seconds."""
        self._seconds = seconds
        self._alerts: deque[tuple[float, bool]] = deque()

    def add(self, time: float, alert: bool) -> None:
        """Take an alert."""
        self._alerts.append((time, alert))
        while self._alerts and self._alerts[0][0] < time - self._seconds - 1e-9:
            self._alerts.popleft()

    @property
    def any(self) -> bool:
        """Return whether one of them was True."""
        return any(alert for _, alert in self._alerts)
