"""From the activations of one frame to its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nav_monitor_ros.decision.calibration import FUSED, Calibration
from nav_monitor_ros.decision.verdict import Explanation, Neuron, ScoreValue, Verdict
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.gaussian import Gaussian
from nav_monitor_ros.scores.pattern import Pattern

EXPLAINED_NEURONS = 8


class InvalidActivationsError(NavMonitorError):
    """The network's output holds values that are not numbers."""


class Judge:
    """Fitted scores with their calibration, ready to judge frames. Safe to share by threads."""

    def __init__(
        self,
        scores: Mapping[str, Score],
        calibration: Calibration,
        class_names: Sequence[str],
        *,
        decisive: str = FUSED,
        top: int = 3,
    ) -> None:
        """Take fitted scores into service.

        Args:
            scores: Fitted scores by name.
            calibration: Of these very scores.
            class_names: C names.
            decisive: The score whose p-value decides: ``fused`` or one of ``scores``.
            top: How many classes a verdict lists.

        Raises:
            NavMonitorError: ``decisive`` is not among the scores.
        """
        if decisive != FUSED and decisive not in scores:
            raise NavMonitorError(
                f"the bundle has no score '{decisive}'; it has {', '.join([FUSED, *scores])}"
            )
        self.scores = dict(scores)
        self.calibration = calibration
        self.class_names = tuple(class_names)
        self.decisive = decisive
        self.threshold = calibration.thresholds[decisive]
        self.top = min(top, len(self.class_names))
        self._pattern = next((s for s in scores.values() if isinstance(s, Pattern)), None)
        self._gaussian = next((s for s in scores.values() if isinstance(s, Gaussian)), None)

    def judge(self, frame: Activations) -> Verdict:
        """Judge one frame.

        Args:
            frame: The activations of exactly one image.

        Raises:
            InvalidActivationsError: A logit or feature is NaN or infinite.
        """
        _require_numbers(frame)
        scores = {name: score.score_frame(frame) for name, score in self.scores.items()}
        values = {
            name: ScoreValue(score, self.calibration.members[name].p_value(score))
            for name, score in scores.items()
        }
        statistic = float(
            self.calibration.statistic({name: np.array([s]) for name, s in scores.items()})[0]
        )
        values[FUSED] = ScoreValue(statistic, self.calibration.fused.p_value(statistic))
        probabilities = _softmax(frame.logits[0])
        best = np.argsort(-probabilities, kind='stable')[: self.top]
        predicted = int(frame.predicted[0])
        return Verdict(
            class_index=predicted,
            class_name=self.class_names[predicted],
            confidence=float(probabilities[predicted]),
            top=tuple((int(index), float(probabilities[index])) for index in best),
            scores=values,
            decisive=self.decisive,
            threshold=self.threshold,
            explanation=self._explain(frame, predicted),
        )

    def p_values(self, batch: Activations) -> dict[str, np.ndarray]:
        """Return the p-values of many images for every score and ``fused``, float64 (N,) each."""
        _require_numbers(batch)
        return self.calibration.p_values(
            {name: score.score(batch) for name, score in self.scores.items()}
        )

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
        count = min(EXPLAINED_NEURONS, len(z))
        largest = np.argpartition(-np.abs(z), count - 1)[:count]
        largest = largest[np.argsort(-np.abs(z[largest]), kind='stable')]
        neurons = tuple(
            Neuron(int(i), float(features[i]), float(z[i]), bool(pattern[i]), bool(nearest[i]))
            for i in largest
        )
        return Explanation(distance, pattern, nearest, monitored, neurons)


def _require_numbers(batch: Activations) -> None:
    for name, values in (('logits', batch.logits), ('features', batch.features)):
        if not np.isfinite(values).all():
            raise InvalidActivationsError(f'the network gave {name} that are not finite numbers')


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64) - logits.max())
    return raised / raised.sum()
