"""How often a false-alarm bound should hold on finitely many test images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import betabinom

from nav_monitor_ros.decision.class_conditional_p_values import ClassConditionalPValues

_ROUNDING = 1e-9


@dataclass(frozen=True)
class SplitCell:
    """Images that are ranked among each other: those of one calibration cell."""

    calibrated: int  # n, calibration images
    above: int  # k: an image is flagged if at most k calibration scores reach its score; -1: never
    tested: int  # m, test images


def share_of_splits_within(cells: Iterable[SplitCell], alpha: float) -> float:
    """Return the share of random splits in which at most a share ``alpha`` is flagged.

    A bound that holds with 95 % confidence is a statement about the population of all frames. The
    share that is flagged among m test images varies around that of the population, so that it stays
    within ``alpha`` in another share of the splits, usually a smaller one. If the n + m images of a
    cell are exchangeable and have no ties, every order of theirs is equally likely, and the number
    F of test images that score above the (k + 1)-th largest calibration score depends on the order
    alone::

        P(F = j) = C(k + j, j) C(n - k - 1 + m - j, m - j) / C(n + m, m)

    This is the negative hypergeometric distribution, also known as the beta-binomial one with
    parameters m, k + 1 and n - k. The result is ``P(sum of F over the cells <= alpha m)``, exact
    for any distribution of the scores; with ties it is a lower bound, since ties count as less
    unusual. It does not apply to images that come in groups, such as the frames of a track.
    Source: Marques F., Universal distribution of the empirical coverage in split conformal
    prediction, Statistics and Probability Letters 219, 2025.

    Args:
        cells: Cells, which are independent given their numbers of images.
        alpha: Largest share of flagged test images, over all cells.
    """
    cells = list(cells)
    most = math.floor(alpha * sum(cell.tested for cell in cells) + _ROUNDING)
    # P(F = j) for j up to ``most``: larger numbers exceed the bound whatever the other cells do.
    total: np.ndarray = np.ones(1)
    for cell in cells:
        if cell.above >= 0 and cell.tested:
            counts = np.arange(min(most, cell.tested) + 1)
            # Flagging is certain if k calibration scores at most reach n.
            least = cell.calibrated - cell.above
            flagged = betabinom.pmf(counts, cell.tested, cell.above + 1, max(least, _ROUNDING))
            total = np.convolve(total, flagged)[: most + 1]
    return float(min(1.0, total.sum()))


def split_cells(
    p_values: ClassConditionalPValues, thresholds: np.ndarray, predicted: np.ndarray
) -> list[SplitCell]:
    """Return the cells of a calibration with the number of test images in each.

    Args:
        p_values: Calibration of a score.
        thresholds: float64 (C,), its thresholds on p-values by class.
        predicted: int64 (M,), the predicted classes of the test images.
    """
    tested = np.bincount(p_values.cell_of_class[predicted], minlength=len(p_values.cells))
    limits = dict(zip(p_values.cell_of_class.tolist(), thresholds.tolist(), strict=True))
    return [
        SplitCell(
            len(cell), math.floor(limits[number] * (len(cell) + 1) + _ROUNDING) - 1,
            int(tested[number]),
        )
        for number, cell in enumerate(p_values.cells)
    ]
