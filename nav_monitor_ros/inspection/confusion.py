"""Confusion between a network's classes, and the choice of classes to compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from nav_monitor_ros.errors import NavMonitorError


@dataclass(frozen=True)
class Answers:
    """Outputs of a network for the images of a source."""

    labels: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float (N, C)
    labelled: bool = True  # False if the labels are the network's own predictions

    @property
    def predicted(self) -> np.ndarray:
        """Return the class of the largest logit of each image, int64 (N,)."""
        return self.logits.argmax(axis=1)

    @property
    def accuracy(self) -> float | None:
        """Return the share of images that are classified correctly; None without labels."""
        return float((self.predicted == self.labels).mean()) if self.labelled else None

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return self.logits.shape[1]

    def counts(self) -> np.ndarray:
        """Return the confusion matrix, int64 (C, C), with true classes in rows."""
        counts = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    def mean_probabilities(self) -> np.ndarray:
        """Return the mean probability that images of each class give to each class.

        Returns:
            float64 (C, C); 0 in the rows of classes without images.
        """
        known = np.isfinite(self.logits).all(axis=1)
        sums = np.zeros((self.classes, self.classes))
        np.add.at(sums, self.labels[known], softmax(self.logits[known].astype(float), axis=1))
        images = np.bincount(self.labels[known], minlength=self.classes)
        return sums / np.maximum(images, 1)[:, None]

    def example(self, label: int, *, correct: bool) -> int | None:
        """Return the image of a class for which the network is most confident.

        Args:
            label: The class.
            correct: Whether to choose a correctly classified or a missed image.

        Returns:
            The index of the image; None if there is no such image.
        """
        margins = self._margins()
        right = self.predicted == self.labels
        wanted = np.flatnonzero((self.labels == label) & (right == correct))
        return int(wanted[margins[wanted].argmax()]) if wanted.size else None

    def _margins(self) -> np.ndarray:
        """Return the margin between the two largest logits, float (N,)."""
        if self.classes < 2:
            return np.zeros(len(self.logits))
        ordered = np.sort(self.logits, axis=1)
        return np.nan_to_num(ordered[:, -1] - ordered[:, -2], nan=-np.inf)


@dataclass(frozen=True)
class ChosenClass:
    """A class that is compared with others."""

    role: str  # reference, similar or dissimilar
    index: int
    reason: str  # reason for the choice, from the confusion matrix


def choose_classes(
    answers: Answers, names: tuple[str, ...], reference: int | None = None
) -> tuple[ChosenClass, ...]:
    """Choose a class, the most similar one, and the least similar one.

    Similarity is the number of confusions between two classes; in a tie, often at 0, the mean
    probability of each class on images of the other decides.

    Args:
        answers: Outputs of the network for labelled images.
        names: Names of the classes.
        reference: The first class; by default the one that is missed most often.

    Returns:
        Reference, similar and dissimilar class; fewer if fewer classes have images.

    Raises:
        NavMonitorError: The reference class has no image.
    """
    counts, probabilities = answers.counts(), answers.mean_probabilities()
    images = counts.sum(axis=1)
    missed = images - counts.diagonal()
    if reference is None:
        # The least confident one among those missed equally often.
        certain = np.where(images > 0, probabilities.diagonal(), np.inf)
        reference = int(np.lexsort((certain, -missed))[0]) if missed.any() else int(
            certain.argmin()
        )
        why = (
            f'missed most often, {missed[reference]} of {images[reference]} times'
            if missed[reference]
            else f'none is missed; lowest probability, {certain[reference]:.3f}'
        )
    else:
        why = f'requested; missed {missed[reference]} of {images[reference]} times'
    if not images[reference]:
        raise NavMonitorError(
            f"there is no image of class '{names[reference]}'; give a source that contains some"
        )
    chosen = [ChosenClass('reference', reference, why)]
    others = np.flatnonzero((images > 0) & (np.arange(len(images)) != reference))
    if not others.size:
        return tuple(chosen)
    both = counts[reference] + counts[:, reference]
    likely = probabilities[reference] + probabilities[:, reference]
    order = others[np.lexsort((-likely[others], -both[others]))]
    for role, other in (('similar', order[0]), ('dissimilar', order[-1]))[: len(order)]:
        chosen.append(ChosenClass(role, int(other), _why(role, both[other], likely[other] / 2)))
    return tuple(chosen)


def _why(role: str, times: int, probability: float) -> str:
    if times and role == 'similar':
        return f'confused with the reference most often, {times} times'
    bound = 'largest' if role == 'similar' else 'smallest'
    return (
        f'confused with the reference {times} times; {bound} mean probability given to the other, '
        f'{probability:.1e}'
    )
