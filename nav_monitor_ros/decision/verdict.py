"""The verdict on one frame: class, scores, p-values and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nav_monitor_ros.decision.evidence import FrameEvidence

EXPLAINED_NEURONS = 8


@dataclass(frozen=True)
class ScoreValue:
    """One score of one frame."""

    score: float  # in the score's own unit, larger is more unusual
    p_value: float  # conformal, in (0, 1]


@dataclass(frozen=True)
class Neuron:
    """Monitored neuron that deviates from training."""

    index: int  # position in the monitored layer
    value: float  # activation on this frame
    z: float  # (value - class mean) / class standard deviation
    bit: bool  # on (above its threshold) on this frame
    expected_bit: bool  # in the nearest stored pattern


@dataclass(frozen=True)
class Explanation:
    """Why a frame is unusual, in terms of the monitored neurons."""

    distance: int  # Hamming distance to the nearest stored pattern of the predicted class
    pattern: np.ndarray  # bool (D,): this frame's bits
    nearest: np.ndarray  # bool (D,): the nearest stored pattern's bits
    monitored: np.ndarray  # bool (D,): neurons that count for the predicted class
    values: np.ndarray  # float32 (D,): activations on this frame
    z: np.ndarray  # float64 (D,): (value - class mean) / class standard deviation

    @cached_property
    def neurons(self) -> tuple[Neuron, ...]:
        """Most deviating neurons, largest |z| first; computed on first use."""
        count = min(EXPLAINED_NEURONS, len(self.z))
        if not count:
            return ()
        largest = np.argpartition(-np.abs(self.z), count - 1)[:count]
        largest = largest[np.argsort(-np.abs(self.z[largest]), kind='stable')]
        columns = (largest, self.values[largest], self.z[largest],
                   self.pattern[largest], self.nearest[largest])
        return tuple(map(Neuron, *(column.tolist() for column in columns)))


@dataclass(frozen=True)
class Verdict:
    """Verdict on one frame, without regard to the stream."""

    class_index: int
    class_name: str
    confidence: float  # softmax probability of the predicted class
    top: tuple[tuple[int, float], ...]  # (class index, softmax probability), best first
    scores: Mapping[str, ScoreValue]
    decisive: str  # the name of the score that decides, a key of ``scores``
    threshold: float  # decisive p-values at or below it are out-of-distribution
    e_value: float = 1.0  # evidence that the stream is out-of-distribution
    members: tuple[str, ...] = ()  # members of the decisive score; itself if it is not fused
    explanation: Explanation | None = None

    @property
    def p_value(self) -> float:
        """Return the decisive score's p-value."""
        return self.scores[self.decisive].p_value

    @property
    def is_ood(self) -> bool:
        """Return whether the frame, taken alone, is out-of-distribution."""
        return self.p_value <= self.threshold

    @property
    def evidence(self) -> FrameEvidence:
        """Evidence of the frame about the stream."""
        return FrameEvidence(self.p_value, self.is_ood, self.e_value)

    @property
    def strongest_member(self) -> str:
        """Name of the member score with the smallest p-value, for the reason text."""
        members = self.members or (self.decisive,)
        return min(members, key=lambda name: self.scores[name].p_value)

    @property
    def why(self) -> str:
        """Explanation in one line: the score that fired, and the deviating neurons."""
        fired = self.scores[self.strongest_member]
        parts = [f'{self.strongest_member} {fired.score:.4g} (p {fired.p_value:.2g})']
        if self.explanation is not None:
            monitored = int(self.explanation.monitored.sum())
            if self.explanation.distance > monitored:
                parts.append(f"no pattern of '{self.class_name}' is stored")
            else:
                parts.append(
                    f'{self.explanation.distance} of {monitored} neurons differ from the nearest '
                    f"pattern of '{self.class_name}'"
                )
            # A class without images has no z-scores.
            deviating = [f'{n.index} (z {n.z:+.1f})' for n in self.explanation.neurons[:3] if n.z]
            if deviating:
                parts.append('most deviating: ' + ', '.join(deviating))
        return '; '.join(parts)
