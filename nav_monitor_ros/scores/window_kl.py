"""Divergence of the last frames from the predicted class."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.gaussian import Gaussian, GaussianOptions
from nav_monitor_ros.scores.score_options import option

MAX_WINDOW = 1000  # largest number of frames kept per class

_Recent = dict[int, 'deque[tuple[int, np.ndarray]]']  # class -> (frame's number, its features)


@dataclass(frozen=True)
class WindowOptions(GaussianOptions):
    """Options of ``window_kl``."""

    window: int = option(10, 'Frames in a window (W).', low=2, high=MAX_WINDOW)
    max_age: int = option(300, 'Largest age of a frame in the window, in frames.', low=2)

    def __post_init__(self) -> None:
        """Check the options together."""
        if self.max_age < self.window:
            raise NavMonitorError(
                f'window_kl: option max_age is {self.max_age}; it must be at least window, which '
                f'is {self.window}'
            )


class WindowDivergence(Gaussian):
    """Kullback-Leibler divergence of the last frames' features from the predicted class's.

    ``sum_i 0.5 * (log(s_i / v_i) + (v_i + (m_i - mean_i)^2) / s_i - 1)``: m, v are mean and
    variance of each neuron over the last W frames that were predicted as this frame's class c and
    are at most ``max_age`` frames old; mean, s those of class c in training. A single frame has no
    variance, so its divergence is not defined. Frames missing from the window are assumed to be as
    in training, so the score is small while the window fills.

    A windowed score: calibrate it on images in the order in which a camera sees them. Needs
    features (N, D); O(W D) per frame. Source: Kullback and Leibler, 1951, for Gaussians.
    """

    name = 'window_kl'
    evidence_kind = EvidenceKind.FEATURES
    options_type = WindowOptions
    options: WindowOptions
    windowed = True

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start without images."""
        super().__init__(classes=classes, width=width, head=head, **options)
        self._recent: _Recent = {}
        self._number = 0

    @property
    def history(self) -> int:
        """Return the age of the oldest frame that a window may hold."""
        return self.options.max_age

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image of a stream that starts here, float64 (N,)."""
        recent: _Recent = {}
        pairs = zip(batch.features, batch.predicted, strict=True)
        return np.array(
            [self._next(recent, number, f, int(c)) for number, (f, c) in enumerate(pairs)]
        )

    def score_frame(self, frame: Activations) -> float:
        """Return the score of the stream's next image."""
        self._number += 1
        return self._next(
            self._recent, self._number, frame.features[0], int(frame.predicted[0])
        )

    def forget(self) -> None:
        """Empty the windows."""
        self._recent = {}

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """State that the score promises no false-alarm rate."""
        return [
            *super().notes(class_names),
            f'window_kl: over {self.options.window} frames; promises no false-alarm rate, since '
            'windows overlap and calibration images are seldom in the order of a camera'
        ]

    def _next(self, recent: _Recent, number: int, features: np.ndarray, label: int) -> float:
        window = self.options.window
        frames = recent.setdefault(label, deque(maxlen=window))
        frames.append((number, features))
        while frames[0][0] <= number - self.options.max_age:
            frames.popleft()
        mean, variance = self.mean[label], self.variance[label]
        deviation = np.stack([f for _, f in frames]) - mean
        missing = window - len(frames)
        shift = deviation.sum(axis=0) / window
        spread = (np.square(deviation).sum(axis=0) + missing * variance) / window - shift**2
        ratio = np.maximum(spread / variance, self.options.floor)
        return float(0.5 * (ratio - 1 - np.log(ratio) + shift**2 / variance).sum())
