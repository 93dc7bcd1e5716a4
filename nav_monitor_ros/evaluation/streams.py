"""Play verdicts as video through the evidence rules, faster than real time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.evidence import (
    SECONDS_PER_HOUR,
    EvidenceRules,
    FrameEvidence,
    make_evidence,
)
from nav_monitor_ros.errors import NavMonitorError

CHUNK = 1 << 16  # frames of a stream that are in memory at a time
_MOST_FRAMES = 10**12


@dataclass(frozen=True)
class StreamPlan:
    """How sources are played as video."""

    rate: float = 30.0  # frames per second
    hours: float | None = None
    # Duration of the in-distribution stream, of images drawn at random; None: each image once, in
    # order.
    seed: int = 0  # of that draw
    ood_seconds: float = 3.0  # duration after which an OOD stream counts as undetected

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            NavMonitorError: A number is out of range.
        """
        if not 0 < self.rate <= 1e6:
            raise NavMonitorError(f'--rate {self.rate:g}: must be above 0 and at most 1e+06')
        if self.ood_frames < 1 or self.ood_frames > _MOST_FRAMES:
            raise NavMonitorError(
                f'--ood-seconds {self.ood_seconds:g}: must be from one frame, {1 / self.rate:g} s, '
                f'to {_MOST_FRAMES:g} frames'
            )
        if self.hours is not None and not 1 <= self.hours * self.frames_per_hour <= _MOST_FRAMES:
            raise NavMonitorError(
                f'--hours {self.hours:g}: the stream must have from 1 to {_MOST_FRAMES:g} frames, '
                f'at {self.rate:g} per second'
            )

    @property
    def frames_per_hour(self) -> float:
        """Return the number of frames per hour."""
        return self.rate * SECONDS_PER_HOUR

    @property
    def ood_frames(self) -> int:
        """Return the number of frames of an OOD stream."""
        return round(self.ood_seconds * self.rate)

    def frames(self, images: int) -> int:
        """Return the number of frames of the in-distribution stream, given that of its images."""
        return images if self.hours is None else round(self.hours * self.frames_per_hour)

    def indices(self, images: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield the in-distribution stream in parts: indices of images, int64 (M,).

        A drawn stream repeats images. Without groups, each frame is drawn independently of the
        others. With groups, whole groups are drawn, each with the same probability, and the images
        of a group follow each other in their order in the source.

        Args:
            images: Number of images.
            groups: (N,), equal values for images that belong together, such as frames of a track.
        """
        left = self.frames(images)
        if self.hours is None:
            parts: Iterable[np.ndarray] = (
                np.arange(start, min(images, start + CHUNK)) for start in range(0, images, CHUNK)
            )
        else:
            rng = np.random.default_rng(self.seed)
            parts = _drawn(rng, images) if groups is None else _drawn_groups(rng, groups)
        for part in parts:
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return


def _drawn(rng: np.random.Generator, images: int) -> Iterator[np.ndarray]:
    while True:
        yield rng.integers(0, images, CHUNK)


def _drawn_groups(rng: np.random.Generator, groups: np.ndarray) -> Iterator[np.ndarray]:
    _, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(places.reshape(-1), kind='stable')  # images of a group are neighbours in it
    begins = np.cumsum(sizes) - sizes
    count = max(1, int(CHUNK / sizes.mean()))
    while True:
        drawn = rng.integers(0, len(sizes), count)
        lengths = sizes[drawn]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        yield order[np.repeat(begins[drawn], lengths) + within]


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """Evidence of N images by one score, of which streams are made."""

    p_values: np.ndarray  # float64 (N,)
    flagged: np.ndarray  # bool (N,)
    e_values: np.ndarray  # float64 (N,)

    def __len__(self) -> int:
        """Return N."""
        return len(self.p_values)

    def frame(self, index: int) -> FrameEvidence:
        """Return one image as a frame."""
        return FrameEvidence(
            float(self.p_values[index]), bool(self.flagged[index]), float(self.e_values[index])
        )

    def frames(self) -> list[FrameEvidence]:
        """Return all images as frames, in order."""
        columns = (self.p_values.tolist(), self.flagged.tolist(), self.e_values.tolist())
        return [FrameEvidence(*frame) for frame in zip(*columns, strict=True)]


def evidence_of(
    calibration: Calibration,
    score: str,
    p_values: np.ndarray,
    labels: np.ndarray,
    level: float = DEFAULT_EVIDENCE_LEVEL,
) -> ImageEvidence:
    """Return the evidence of images; the arguments are those of ``frames_of``."""
    flagged = p_values <= calibration.thresholds[score][labels]
    e_values = calibration.e_values(score, level).e_values(p_values, labels)
    return ImageEvidence(p_values, flagged, e_values)


def frames_of(
    calibration: Calibration,
    score: str,
    p_values: np.ndarray,
    labels: np.ndarray,
    level: float = DEFAULT_EVIDENCE_LEVEL,
) -> list[FrameEvidence]:
    """Return images as a stream of frames for the evidence.

    Args:
        calibration: Calibration of a bundle.
        score: Name of a score with thresholds.
        p_values: float64 (N,), p-values of that score.
        labels: int64 (N,), the predicted classes.
        level: P-value at or below which a frame is evidence.
    """
    return evidence_of(calibration, score, p_values, labels, level).frames()


class AlarmCount:
    """Counts how often the alert rises on a stream that comes in parts.

    Evidence at rest is not changed by frames without evidence, so these are skipped; the result is
    that of adding every frame.
    """

    def __init__(self, images: ImageEvidence, rules: EvidenceRules, rate: float) -> None:
        """Begin a stream.

        Args:
            images: Images of which the stream consists.
            rules: Evidence rules.
            rate: Frames per second.
        """
        self._images = images
        self._is_unusual = images.flagged | (images.e_values > 1)
        self._evidence = make_evidence(rules)
        self._period = 1 / rate
        self._elapsed = math.inf
        self.frames = 0
        self.alerted = 0  # frames with the alert raised
        self.alarms = 0

    def add(self, indices: np.ndarray) -> None:
        """Add the next part of the stream.

        Args:
            indices: int64 (M,): indices of its images.
        """
        evidence = self._evidence
        unusual = np.flatnonzero(self._is_unusual[indices])
        place, end = 0, len(indices)
        while place < end:
            if evidence.is_at_rest:
                following = np.searchsorted(unusual, place)
                if following == len(unusual):
                    break
                place = int(unusual[following])
            before = evidence.is_ood
            evidence.update(self._images.frame(int(indices[place])), self._elapsed)
            self._elapsed = self._period
            self.alarms += evidence.is_ood and not before
            self.alerted += evidence.is_ood
            place += 1
        self.frames += end


def alarms(frames: Iterable[FrameEvidence], rules: EvidenceRules, rate: float) -> int:
    """Return how often the alert rises on a stream.

    Args:
        frames: Frames, in order.
        rules: Evidence rules.
        rate: Frames per second.
    """
    columns = np.array(list(frames), np.float64).reshape(-1, 3).T
    images = ImageEvidence(columns[0], columns[1] > 0, columns[2])
    count = AlarmCount(images, rules, rate)
    count.add(np.arange(len(images)))
    return count.alarms


def delay(frames: Iterable[FrameEvidence], rules: EvidenceRules, rate: float) -> float:
    """Return the frame at which the alert rises on an OOD stream, from 1; infinite if never.

    The monitor is assumed to be running already, so the first frame continues a stream.
    """
    evidence = make_evidence(rules)
    for number, frame in enumerate(frames, 1):
        evidence.update(frame, 1 / rate)
        if evidence.is_ood:
            return number
    return math.inf
