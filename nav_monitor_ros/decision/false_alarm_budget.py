"""Thresholds on p-values that keep a false-alarm budget with stated confidence."""

from __future__ import annotations

import math

import numpy as np

from nav_monitor_ros.errors import NavMonitorError

HIGH = 0.05  # share of the calibration scores that count as high in the design effect


def p_value_threshold(n: int, alpha: float, confidence: float) -> float:
    """Return the largest p-value that may count as out-of-distribution.

    With probability ``confidence`` over the draw of the n calibration images, at most a share
    ``alpha`` of in-distribution frames has a p-value at or below it. A frame is flagged if at most
    k calibration scores reach its score, where k is the largest count with
    ``BinomialCDF(k; n, alpha) <= 1 - confidence`` (exact, for any score).
    Source: Vovk, Conditional validity of inductive conformal predictors, ACML 2012.

    Args:
        n: Number of calibration images.
        alpha: Largest share of false alarms among in-distribution frames, in (0, 1).
        confidence: In (0, 1).

    Returns:
        ``(k + 1) / (n + 1)``.

    Raises:
        NavMonitorError: n is too small for this budget; the message says how many are needed.
    """
    check_budget(alpha, confidence)
    needed = images_needed(alpha, confidence)
    if n < needed:
        raise NavMonitorError(
            f'{n} calibration images are too few for a false-alarm rate of {alpha:g} at '
            f'{confidence:.0%} confidence: {needed} are needed; give more images or a larger rate'
        )
    # Imported here: scipy.stats takes half a second, and only fitting needs it.
    from scipy.stats import binom

    k = int(binom.ppf(1 - confidence, n, alpha))  # smallest k with CDF(k) >= 1 - confidence
    while k >= 0 and binom.cdf(k, n, alpha) > 1 - confidence:
        k -= 1
    return (max(k, 0) + 1) / (n + 1)  # k is below 0 by rounding only


def effective_sample_size(scores: np.ndarray, groups: np.ndarray) -> int:
    """Return the effective sample size of n calibration images in groups.

    Frames of one track resemble each other: where one scores high, its neighbours do. The bound of
    ``p_value_threshold`` counts independent images, so n is divided by the design effect, the
    variance of the share of high scores over the variance that independent images would have. A
    score is high within the upper ``HIGH``: further up there are too few groups to tell.
    Source: Kish, Survey Sampling, 1965; Rao and Scott, Biometrics 48, 1992.

    Args:
        scores: float (n,).
        groups: (n,), equal values for images that belong together.

    Returns:
        At most n; n where no group holds two images.
    """
    n = len(scores)
    limit = np.quantile(scores, 1 - HIGH)
    high = scores >= limit
    if high.all():  # tied at the lowest score
        high = scores > limit
    _, places = np.unique(groups, return_inverse=True)
    sizes, highs = np.bincount(places), np.bincount(places, high)
    rate, count = high.mean(), len(sizes)
    if count == n:
        return n
    if count == 1 or rate == 0:
        return count
    variance = np.square(highs - rate * sizes).sum() / n**2 * count / (count - 1)
    return min(n, math.floor(n / max(1.0, variance * n / (rate * (1 - rate)))))


def check_budget(alpha: float, confidence: float) -> None:
    """Check that both lie between 0 and 1.

    Raises:
        NavMonitorError: One of them does not.
    """
    if not (0 < alpha < 1 and 0 < confidence < 1):
        raise NavMonitorError(
            f'the false-alarm budget ({alpha}) and its confidence ({confidence}) must lie '
            'between 0 and 1'
        )


def images_needed(alpha: float, confidence: float) -> int:
    """Return the images that a budget needs: least n of (1 - alpha)^n <= 1 - confidence."""
    n = math.ceil(math.log1p(-confidence) / math.log1p(-alpha))
    # Rounding may have made it one too small.
    while n * math.log1p(-alpha) > math.log1p(-confidence):
        n += 1
    return n


def images_for_a_class(alpha: float, confidence: float) -> int:
    """Return about how many images give a class a threshold that uses half of the budget.

    With ``images_needed`` images a frame would be flagged only above the largest calibration score
    of its class: the bound holds, but with a third of the permitted false alarms, and detection
    suffers accordingly.
    """
    n = images_needed(alpha, confidence)
    while p_value_threshold(n, alpha, confidence) < alpha / 2:
        n = math.ceil(1.02 * n)
    return n
