"""The verdict on one frame: class, scores, p-values and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nav_monitor_ros.decision.evidence import FrameEvidence
from nav_monitor_ros.scores.evidence_kind import EvidenceKind

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
    member_kinds: Mapping[str, EvidenceKind] = field(default_factory=dict)
    # what a flagged frame is unusual in according to each member
    # -log p of the members, which the fused score sums; above the calibration scores extrapolated
    fusion_terms: Mapping[str, float] = field(default_factory=dict)
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
        """Name of the member score with the smallest p-value.

        Members that score above all calibration images have the same p-value. Of these, it is the
        one that contributes most to the fused score.
        """
        members = self.members or (self.decisive,)
        return min(members, key=lambda name: (
            self.scores[name].p_value, -self.fusion_terms.get(name, 0.0)
        ))

    @property
    def fired_member(self) -> str:
        """Name of the member score that flagged the frame; '' for a frame that is not flagged."""
        return self.strongest_member if self.is_ood else ''

    @property
    def evidence_kind(self) -> EvidenceKind | None:
        """What a flagged frame is unusual in: the kind of evidence of ``strongest_member``.

        None for a frame that is not flagged, or if the kinds are unknown.
        """
        return self.member_kinds.get(self.strongest_member) if self.is_ood else None

    @property
    def flagged_kinds(self) -> tuple[EvidenceKind, ...]:
        """Kinds of evidence that are at or below a flagged frame's threshold by themselves.

        A kind is if the p-value of one of its members is. None is if the frame is flagged because
        several moderately small p-values add up.
        """
        found = {
            kind for name, kind in self.member_kinds.items()
            if self.is_ood and self.scores[name].p_value <= self.threshold
        }
        return tuple(kind for kind in EvidenceKind if kind in found)

    @property
    def why(self) -> str:
        """Explanation in one line: the score that fired, and the deviating neurons."""
        fired = self.scores[self.strongest_member]
        parts = [f'{self.strongest_member} {fired.score:.4g} (p {fired.p_value:.2g})']
        if self.evidence_kind is not None:
            parts.append(self.evidence_kind.sentence_part)
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
