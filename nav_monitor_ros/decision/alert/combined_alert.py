"""Combination of the alerts of several cameras."""

from __future__ import annotations

from collections.abc import Mapping

from nav_monitor_ros.decision.alert.reason import Alert, Reason

# If the cameras' reasons differ, the combined reason is the first of these that any of them has.
MOST_SEVERE_FIRST = (
    Reason.MODEL_ERROR, Reason.INACTIVE, Reason.DISABLED, Reason.INFERENCE_TIMEOUT,
    Reason.INFERENCE_ERROR, Reason.OOD, Reason.LATCHED, Reason.BAD_IMAGE, Reason.FROZEN_IMAGE,
    Reason.STALE_IMAGE, Reason.NO_IMAGE, Reason.LOW_INPUT_RATE, Reason.WARMING_UP,
    Reason.SUSPECT, Reason.IN_DISTRIBUTION,
)


def combine(alerts: Mapping[str, Alert]) -> Alert:
    """Combine the alerts of several cameras: True if any of them is.

    Args:
        alerts: What each says, by its name; at least one.

    Returns:
        The most severe camera's state and reason. The detail names every camera that is not
        in-distribution, with its reason; ``since`` is when the first camera came to the reason.
    """
    most_severe = min(alerts.values(), key=lambda alert: MOST_SEVERE_FIRST.index(alert.reason))
    details = [
        f'{name}: {alert.reason.value}' + (f' ({alert.detail})' if alert.detail else '')
        for name, alert in alerts.items() if alert.reason is not Reason.IN_DISTRIBUTION
    ]
    return Alert(
        any(alert.value for alert in alerts.values()),
        most_severe.state,
        most_severe.reason,
        '; '.join(details),
        min(alert.since for alert in alerts.values() if alert.reason is most_severe.reason),
    )


def combined_values(alerts: Mapping[str, Alert]) -> dict[str, object]:
    """Return the values of a status for each camera, in addition to the combined alert."""
    values: dict[str, object] = {
        'cameras': ' '.join(alerts),
        'alerted': ' '.join(name for name, alert in alerts.items() if alert.value),
    }
    for name, alert in alerts.items():
        values[f'{name}/alert'] = alert.value
        values[f'{name}/reason'] = alert.reason.value
        values[f'{name}/detail'] = alert.detail
    return values
