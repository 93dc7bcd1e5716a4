"""Conformal p-values within classes that have enough calibration images (Mondrian)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.false_alarm_budget import p_value_threshold


class ClassConditionalPValues:
    """P-values of frames, ranked among the calibration images predicted as the same class.

    Some classes have higher scores than others; ranked among all images, they would have more than
    their share of false alarms. A class with enough images is a cell of its own, in which the
    budget holds for that class alone; all other classes share one cell. For a frame that is
    exchangeable with the calibration images of its cell, ``P(p <= u | cell) <= u``.
    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005,
    chapter 4 (Mondrian conformal predictors).
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray, cells: np.ndarray) -> None:
        """Sort the calibration scores into cells.

        Args:
            scores: float (n,).
            labels: int64 (n,), the predicted classes.
            cells: int64 (C,), the number of the cell of each class, counted from 0.

        Raises:
            NavMonitorError: A cell is empty, or a score is not a number.
        """
        self.cell_of_class = cells
        members = cells[labels]
        self.pooled = ConformalPValues(scores)
        self.cells = [
            ConformalPValues(scores[members == cell]) for cell in range(int(cells.max()) + 1)
        ]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> ClassConditionalPValues:
        """Return the object whose ``tensors`` are given.

        Raises:
            KeyError: An array is missing.
            ValueError: The arrays contradict each other.
        """
        scores, cells, offsets = tensors['scores'], tensors['cells'], tensors['offsets']
        sizes = np.diff(offsets)
        numbers = np.arange(len(sizes))
        fits = (
            scores.ndim == offsets.ndim == cells.ndim == 1
            and offsets.dtype.kind == cells.dtype.kind == 'i'
            and len(sizes) > 0
            and bool((sizes > 0).all())
            and offsets[0] == 0
            and offsets[-1] == len(scores)
            and np.array_equal(np.unique(cells), numbers)
        )
        if not fits:
            raise ValueError('the calibration scores are inconsistent')
        first_class = np.array([int(np.flatnonzero(cells == cell)[0]) for cell in numbers])
        return cls(scores, np.repeat(first_class, sizes), cells)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the scores sorted within cells (n,), the offsets of the cells, and ``cells``."""
        sizes = [len(cell) for cell in self.cells]
        return {
            'scores': np.concatenate([cell.scores for cell in self.cells]),
            'offsets': np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            'cells': self.cell_of_class,
        }

    def __len__(self) -> int:
        """Return n."""
        return len(self.pooled)

    def cell(self, label: int) -> ConformalPValues:
        """Return the cell of a predicted class."""
        return self.cells[self.cell_of_class[label]]

    def p_value(self, score: float, label: int) -> float:
        """Return the p-value of one frame's score, given its predicted class."""
        return self.cell(label).p_value(score)

    def p_values(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the p-value of each image, float64 (N,).

        Args:
            scores: float (N,).
            labels: int64 (N,), the predicted classes.
        """
        result = np.empty(len(scores))
        members = self.cell_of_class[labels]
        for number, cell in enumerate(self.cells):
            result[members == number] = cell.p_values(scores[members == number])
        return result

    def thresholds(
        self, alpha: float, confidence: float, sizes: Sequence[int] | None = None
    ) -> np.ndarray:
        """Return the largest p-value that is flagged in each class, float64 (C,).

        Args:
            alpha: False-alarm budget per frame.
            confidence: With which it holds in each cell.
            sizes: Effective sample size of each cell; None where all images are independent.

        Raises:
            NavMonitorError: A cell has too few images for the budget.
        """
        sizes = [len(cell) for cell in self.cells] if sizes is None else sizes
        cells = np.array([p_value_threshold(size, alpha, confidence) for size in sizes])
        return cells[self.cell_of_class]


def assign_cells(labels: np.ndarray, classes: int, least: int) -> np.ndarray:
    """Return the number of the cell of each class, int64 (C,).

    Classes with fewer than ``least`` images share cell 0. If that cell has fewer too, the smallest
    of the other classes join it until it has enough, or until it holds all classes.

    Args:
        labels: int64 (n,), the predicted classes of the calibration images.
        classes: C.
        least: Images that a cell needs.
    """
    counts = np.bincount(labels, minlength=classes)
    order = np.argsort(counts, kind='stable')
    shared = int((counts < least).sum())
    while 0 < shared < classes and counts[order[:shared]].sum() < least:
        shared += 1
    cells = np.zeros(classes, np.int64)
    alone = np.sort(order[shared:])
    cells[alone] = np.arange(len(alone)) + (shared > 0)
    return cells
