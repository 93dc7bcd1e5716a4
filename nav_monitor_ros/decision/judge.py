"""The verdict on a frame, from its activations."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np

from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.decision.verdict import Explanation, ScoreValue, Verdict
from nav_monitor_ros.errors import NavMonitorError, did_you_mean
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.gaussian import Gaussian
from nav_monitor_ros.scores.pattern import Pattern


class InvalidActivationsError(NavMonitorError):
    """The output of the network, or a score of it, is not finite."""


class Judge:
    """Judges frames by fitted scores and their calibration.

    Threads may share a judge, unless one of its scores is windowed (``Score.windowed``).
    """

    def __init__(
        self,
        scores: Mapping[str, Score],
        calibration: Calibration,
        class_names: Sequence[str],
        *,
        decisive: str = FUSED,
        also: Sequence[str] = (),
        top: int = 3,
        evidence_level: float = DEFAULT_EVIDENCE_LEVEL,
    ) -> None:
        """Choose the scores that are computed and the one that decides.

        Args:
            scores: Fitted scores by name.
            calibration: Calibration of these scores.
            class_names: C names.
            decisive: The score whose p-value decides: ``fused`` or one of ``scores``.
            also: Further scores that every verdict contains; ``all`` stands for all of them. Other
                scores are not computed.
            top: Number of classes that a verdict lists.
            evidence_level: P-value at or below which a frame counts as evidence, in (0, 1).

        Raises:
            NavMonitorError: ``decisive``, or one of ``also``, is not among the scores, there are
                too few calibration images for ``decisive``, or ``evidence_level`` is out of range.
        """
        every = (FUSED, *scores)
        also = every if 'all' in also else tuple(also)
        for name in (decisive, *also):
            if name not in every:
                raise NavMonitorError(
                    f"the bundle has no score '{name}'; it has {', '.join(every)}"
                    f'{did_you_mean(name, every)}'
                )
        self.calibration = calibration
        self.class_names = tuple(class_names)
        self.decisive = decisive
        self.fuses = FUSED in (decisive, *also)
        self.members = calibration.fusion_members if decisive == FUSED else (decisive,)
        wanted = {*self.members, *also, *(calibration.fusion_members if self.fuses else ())}
        self.scores = {name: score for name, score in scores.items() if name in wanted}
        if decisive not in calibration.thresholds:
            raise NavMonitorError(
                f"the score '{decisive}' cannot decide: the bundle has too few independent "
                'calibration images for it; choose another score or fit with more images'
            )
        self.member_kinds = {name: self.scores[name].evidence_kind for name in self.members}
        self._kinds_vary = any(  # between frames; finding them takes some of the time of a score
            type(self.scores[name]).evidence_kinds is not Score.evidence_kinds
            for name in self.members
        )
        self.thresholds = calibration.thresholds[decisive]  # float64 (C,), p-values
        self.e_values = calibration.e_values(decisive, evidence_level)
        self.top = min(top, len(self.class_names))
        self._pattern = next((s for s in scores.values() if isinstance(s, Pattern)), None)
        self._gaussian = next((s for s in scores.values() if isinstance(s, Gaussian)), None)

    @property
    def score_names(self) -> tuple[str, ...]:
        """Return the names of the scores that every verdict contains."""
        return (*self.scores, FUSED) if self.fuses else tuple(self.scores)

    def judge(self, frame: Activations) -> Verdict:
        """Judge one frame.

        Args:
            frame: The activations of exactly one image.

        Raises:
            InvalidActivationsError: A logit, a feature or a score is NaN or infinite.
        """
        _require_numbers(frame)
        predicted = int(frame.predicted[0])
        values = {}
        explanation = self._explain(frame, predicted)
        for name, fitted in self.scores.items():
            if fitted is self._pattern and explanation is not None:
                score = float(explanation.distance)  # the explanation needed it already
            else:
                score = fitted.score_frame(frame)
            if not math.isfinite(score):
                raise InvalidActivationsError(f"the score '{name}' of this frame is {score}")
            p_value = self.calibration.scores[name].p_value(score, predicted)
            values[name] = ScoreValue(score, p_value)
        terms: dict[str, float] = {}
        if self.fuses:
            terms = self.calibration.fusion_terms_of_frame(
                {name: value.score for name, value in values.items()}
            )
            fused = sum(terms.values())
            p_value = self.calibration.fused.p_value(fused, predicted)
            values[FUSED] = ScoreValue(fused, p_value)
        threshold = float(self.thresholds[predicted])
        kinds = self.member_kinds
        if self._kinds_vary and values[self.decisive].p_value <= threshold:
            kinds = {
                name: EvidenceKind(self.scores[name].evidence_kinds(frame)[0])
                for name in self.members
            }
        probabilities = _softmax(frame.logits[0])
        best = np.argsort(-probabilities, kind='stable')[: self.top]
        return Verdict(
            class_index=predicted,
            class_name=self.class_names[predicted],
            confidence=float(probabilities[predicted]),
            top=tuple((int(index), float(probabilities[index])) for index in best),
            scores=values,
            decisive=self.decisive,
            members=self.members,
            member_kinds=kinds,
            fusion_terms=terms,
            threshold=threshold,
            e_value=self.e_values.e_value(values[self.decisive].p_value, predicted),
            explanation=explanation,
        )

    def scores_of(self, batch: Activations) -> dict[str, np.ndarray]:
        """Return every computed score of many images, float64 (N,) each."""
        _require_numbers(batch)
        scores = {name: score.score(batch) for name, score in self.scores.items()}
        return {FUSED: self.calibration.fused_scores(scores), **scores} if self.fuses else scores

    def p_values(self, batch: Activations) -> dict[str, np.ndarray]:
        """Return the p-values of many images for the scores of ``scores_of``, float64 (N,) each."""
        scores = {name: s for name, s in self.scores_of(batch).items() if name != FUSED}
        return self.calibration.p_values(scores, batch.predicted)

    def for_camera(self) -> Judge:
        """Return a judge for another stream, which shares all but the memory of past frames."""
        judge = copy.copy(self)
        # Scores that remember earlier frames are copied.
        judge.scores = {
            name: score if type(score).forget is Score.forget else copy.copy(score)
            for name, score in self.scores.items()
        }
        judge.forget()
        return judge

    def forget(self) -> None:
        """Forget earlier frames, after a gap in the stream."""
        for score in self.scores.values():
            score.forget()

    def _explain(self, frame: Activations, predicted: int) -> Explanation | None:
        if self._pattern is None:
            return None
        features = frame.features[0]
        pattern, nearest, distance = self._pattern.nearest(features, predicted)
        monitored = self._pattern.monitored[predicted]
        if self._gaussian is None:
            z = np.zeros(len(features))
        else:
            z = self._gaussian.z_scores(features, predicted)
        # A copy: verdicts are kept, and the features may be a view of a much larger array.
        return Explanation(distance, pattern, nearest, monitored, features.copy(), z)


def _require_numbers(batch: Activations) -> None:
    for name, values in (('logits', batch.logits), ('features', batch.features)):
        if not np.isfinite(values).all():
            raise InvalidActivationsError(f'the network gave {name} that are not finite numbers')


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64) - logits.max())
    return raised / raised.sum()
