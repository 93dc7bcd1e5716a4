"""Which classes a network takes for which, and the classes that are worth comparing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from nav_monitor_ros.errors import NavMonitorError


@dataclass(frozen=True)
class Answers:
    """What a network says of the images of a source."""

    labels: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float (N, C)
    labelled: bool = True  # False: the labels are the network's own predictions

    @property
    def predicted(self) -> np.ndarray:
        """Return the class of the largest logit of each image, int64 (N,)."""
        return self.logits.argmax(axis=1)

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return self.logits.shape[1]

    def counts(self) -> np.ndarray:
        """Return how many images of each class were taken for each class, int64 (C, C)."""
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
        """Return the image of a class of which the network is most certain.

        Args:
            label: The class.
            correct: Whether it is to be classified correctly or missed.

        Returns:
            The image's index; None where there is none such.
        """
        margins = self._margins()
        right = self.predicted == self.labels
        wanted = np.flatnonzero((self.labels == label) & (right == correct))
        return int(wanted[margins[wanted].argmax()]) if wanted.size else None

    def _margins(self) -> np.ndarray:
        """Return how far the largest logit is above the second, float (N,)."""
        if self.classes < 2:
            return np.zeros(len(self.logits))
        ordered = np.sort(self.logits, axis=1)
        return np.nan_to_num(ordered[:, -1] - ordered[:, -2], nan=-np.inf)


@dataclass(frozen=True)
class ChosenClass:
    """A class that is compared with others."""

    role: str  # reference, similar or dissimilar
    index: int
    reason: str  # why this one, from the confusion matrix


def choose_classes(
    answers: Answers, names: tuple[str, ...], reference: int | None = None
) -> tuple[ChosenClass, ...]:
    """Choose a class, the one that is most like it, and the one that is least like it.

    Likeness is how often the network takes one of the two for the other; where that is a tie,
    often at 0, the mean probability that it gives to one on images of the other, both ways.

    Args:
        answers: Answers of the network to labelled images.
        names: Names of the classes.
        reference: The first class; by default the one that is missed most often.

    Returns:
        Reference, similar and dissimilar class; fewer where fewer classes have images.

    Raises:
        NavMonitorError: There is no image of the reference.
    """
    counts, probabilities = answers.counts(), answers.mean_probabilities()
    images = counts.sum(axis=1)
    missed = images - counts.diagonal()
    if reference is None:
        # The least certain one of those that are missed equally often.
        certain = np.where(images > 0, probabilities.diagonal(), np.inf)
        reference = int(np.lexsort((certain, -missed))[0]) if missed.any() else int(
            certain.argmin()
        )
        why = (
            f'missed most often, {missed[reference]} of {images[reference]} times'
            if missed[reference]
            else f'none is missed; given the least probability, {certain[reference]:.3f}'
        )
    else:
        why = f'asked for; missed {missed[reference]} of {images[reference]} times'
    if not images[reference]:
        raise NavMonitorError(
            f"there is no image of class '{names[reference]}'; give a source that has some"
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
    word, bound = ('most', 'largest') if role == 'similar' else ('least', 'smallest')
    if times and role == 'similar':
        return f'{word} often taken for the reference or the other way round, {times} times'
    return (
        f'taken for the reference {times} times; {bound} mean probability given to the other, '
        f'{probability:.1e}'
    )
