"""When a neuron counts as on."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

RULES = ('auto', 'zero', 'quantile')
ALWAYS_ON = 0.99  # a neuron above its threshold on more of the sample than this says nothing


def check_rule(score: str, rule: str, quantile: float) -> None:
    """Check a score's options.

    Raises:
        NavMonitorError: The rule is unknown, or the quantile does not lie between 0 and 1.
    """
    if rule not in RULES:
        raise NavMonitorError(f"{score}: threshold '{rule}' is not one of {', '.join(RULES)}")
    if not 0 < quantile < 1:
        raise NavMonitorError(f'{score}: quantile must lie between 0 and 1, not {quantile}')


def choose_thresholds(
    score: str, features: np.ndarray, rule: str, quantile: float
) -> np.ndarray:
    """Return the value above which each neuron is on, float32 (D,).

    Args:
        score: Name of the score, for messages.
        features: float32 (N, D), a sample of training images.
        rule: ``zero``; ``quantile``, of each neuron; ``auto``, which is ``zero`` unless that says
            nothing, as after global average pooling of ReLU maps.
        quantile: Where quantiles are used.

    Raises:
        NavMonitorError: ``zero`` is asked of a layer where it says nothing, or the layer is
            constant.
    """
    on_rate = (features > 0).mean(axis=0)
    vacuous = bool(np.median(on_rate) > ALWAYS_ON)
    if vacuous and rule == 'zero':
        raise NavMonitorError(
            f'{score}: {np.mean(on_rate > ALWAYS_ON):.0%} of the monitored neurons are above '
            '0 on almost every training image, so a pattern at 0 says nothing (as after '
            'global average pooling); use threshold auto or quantile'
        )
    thresholds = np.zeros(features.shape[1], np.float32)
    if rule == 'quantile' or vacuous:
        thresholds = np.quantile(features, quantile, axis=0).astype(np.float32)
    patterns = features > thresholds
    if not (patterns != patterns[:1]).any():
        raise NavMonitorError(
            f'{score}: no monitored neuron ever changes over the training sample; '
            'choose another layer'
        )
    return thresholds


def describe_rule(thresholds: np.ndarray, rule: str, quantile: float) -> str:
    """Return in words when a neuron is on."""
    if not thresholds.any():
        return 'on above 0'
    if rule == 'auto':
        return (
            f'on above its {quantile:g} quantile in training (a pattern at 0 would say '
            'nothing: almost every neuron is always positive)'
        )
    return f'on above its {quantile:g} quantile in training'
