"""Content of ``~/ood_status`` for a frame, without ROS."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nav_monitor_ros.decision.alert.reason import Alert, State
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.scores.evidence_kind import EvidenceKind

OK, WARN, ERROR, STALE = 0, 1, 2, 3  # levels of diagnostic_msgs/DiagnosticStatus
LEVELS = {State.OK: OK, State.SUSPECT: WARN, State.OOD: ERROR, State.INVALID: ERROR}
STALE_REASONS = {'no_image', 'stale_image', 'frozen_image', 'inactive', 'disabled', 'warming_up'}
MOST_LABELS = 1 << 16  # largest number of classes in ~/label_info: their numbers have 16 bits
_MOST_DIFFERING = 32  # largest number of listed neurons


def status_level(alert: Alert) -> int:
    """Return the level of a status."""
    return STALE if alert.reason.value in STALE_REASONS else LEVELS[alert.state]


def status_values(
    alert: Alert, verdict: Verdict | None, extra: Mapping[str, object]
) -> dict[str, str]:
    """Return all values behind a verdict, as keys and values of a status.

    Args:
        alert: What is said.
        verdict: Of the frame, if it could be judged.
        extra: Further values.
    """
    values: dict[str, object] = {
        'alert': alert.value, 'state': alert.state.value, 'detail': alert.detail
    }
    if verdict is not None:
        values.update(_verdict_values(verdict))
    values.update(extra)
    return {key: value_text(value) for key, value in values.items()}


def value_text(value: object) -> str:
    """Return a value as text for diagnostics."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def kind_text(kind: EvidenceKind | None) -> str:
    """Return a kind of evidence as a value; '' if it is unknown."""
    return '' if kind is None else kind.value


def _verdict_values(verdict: Verdict) -> dict[str, object]:
    values: dict[str, object] = {
        'class': verdict.class_name,
        'class_index': verdict.class_index,
        'confidence': verdict.confidence,
        'p_value': verdict.p_value,
        'p_threshold': verdict.threshold,
        'decisive_score': verdict.decisive,
        'frame_is_ood': verdict.is_ood,
        'fired_score': verdict.fired_member,
        'evidence_kind': kind_text(verdict.evidence_kind),
        'flagged_kinds': ' '.join(map(kind_text, verdict.flagged_kinds)),
        'why': verdict.why,
    }
    for name, value in verdict.scores.items():
        values[f'score/{name}'] = value.score
        values[f'p_value/{name}'] = value.p_value
    explanation = verdict.explanation
    if explanation is not None:
        differing = np.flatnonzero(explanation.pattern != explanation.nearest)
        values['nearest_pattern_distance'] = explanation.distance
        values['monitored_neurons'] = int(explanation.monitored.sum())
        values['differing_neurons'] = ' '.join(map(str, differing[:_MOST_DIFFERING]))
        values['deviating_neurons'] = ' '.join(
            f'{neuron.index}:z={neuron.z:+.1f}' for neuron in explanation.neurons
        )
    return values
