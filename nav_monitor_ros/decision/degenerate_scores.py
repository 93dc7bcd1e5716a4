"""Scores that carry no information of their own, found by their values on calibration images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from nav_monitor_ros.scores.base import Score

EQUAL = 0.999  # rank correlation from which two scores are the same evidence
SATURATED = 0.5  # share of the images with the largest value from which no image is unusual
_ROUNDING = 1e-6  # difference between equal values, relative to the largest


def degenerate_scores(
    fitted: Mapping[str, Score], values: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Return the scores that tell no images apart, by name, with the reason.

    A score that is tied at its smallest value is not among them: it is 0 for images that are as in
    training, as a distance to stored patterns, and unusual images still exceed it.

    Args:
        fitted: Fitted scores.
        values: float64 (N,), their values on in-distribution images; finite.
    """
    found = {}
    for name, score in fitted.items():
        if score.windowed or name not in values:
            continue
        reason = score.degeneracy() or _constant(values[name])
        if reason:
            found[name] = reason
    return found


def duplicates(
    members: Sequence[str], fitted: Mapping[str, Score], values: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Return the members of a fusion that rank images as another one does, with the reason.

    Of two equal members the second is returned; if one extends the other (``Score.extends``), that
    one.

    Args:
        members: Names of scores that are not constant, in the order of preference.
        fitted: Fitted scores.
        values: float64 (N,), their values on in-distribution images; finite.
    """
    ranks = {name: rankdata(values[name]) for name in members}
    found: dict[str, str] = {}
    for place, name in enumerate(members):
        for earlier in members[:place]:
            if earlier in found or name in found:
                continue
            correlation = float(np.corrcoef(ranks[earlier], ranks[name])[0, 1])
            if not correlation >= EQUAL:
                continue
            extending = fitted[earlier].extends == name
            twin, kept = (earlier, name) if extending else (name, earlier)
            found[twin] = f'it ranks images as {kept} does (rank correlation {correlation:.4f})'
    return found


def _constant(values: np.ndarray) -> str:
    """Return why a score of in-distribution images is constant or saturated; '' if it is not."""
    low, high = float(values.min()), float(values.max())
    rounding = _ROUNDING * max(abs(low), abs(high))
    if high - low <= rounding:
        return 'it is the same for all calibration images'
    share = float((values >= high - min(rounding, _ROUNDING * (high - low))).mean())
    if share >= SATURATED:
        return f'{share:.0%} of the calibration images have its largest value'
    return ''
