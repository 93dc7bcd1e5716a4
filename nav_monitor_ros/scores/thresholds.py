"""Thresholds above which a neuron is on."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

RULES = ('auto', 'zero', 'quantile')
ALWAYS_ON = 0.99  # a neuron above 0 on a larger share of the sample carries no information
# Neurons of ReLU layers are on for a third to half of all images. If the median neuron is on for a
# larger share than this, pooling has made the values positive: a zero then shows how weak the
# response is, not which neurons respond, and images that excite nothing look familiar
# (docs/judging.md).
MOSTLY_ON = 0.8


def choose_thresholds(
    score: str, features: np.ndarray, rule: str, quantile: float
) -> np.ndarray:
    """Return the value above which each neuron is on, float32 (D,).

    Args:
        score: Name of the score, for messages.
        features: float32 (N, D), a sample of training images.
        rule: ``zero``; ``quantile`` of each neuron; or ``auto``, which is ``zero`` unless that
            carries little information, as after global average pooling of ReLU maps.
        quantile: The quantile, in (0, 1).

    Raises:
        NavMonitorError: The rule is ``zero`` for a layer where that carries no information, or the
            layer is constant.
    """
    on_rate = (features > 0).mean(axis=0)
    if rule == 'zero' and np.median(on_rate) > ALWAYS_ON:
        raise NavMonitorError(
            f'{score}: {np.mean(on_rate > ALWAYS_ON):.0%} of the monitored neurons are above '
            '0 on almost every training image, so a pattern at 0 carries no information (as after '
            'global average pooling); use threshold auto or quantile'
        )
    thresholds = np.zeros(features.shape[1], np.float32)
    if rule == 'quantile' or (rule == 'auto' and np.median(on_rate) > MOSTLY_ON):
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
            f'on above its {quantile:g} quantile in training (a pattern at 0 would carry little '
            'information: most neurons are positive on most images)'
        )
    return f'on above its {quantile:g} quantile in training'
