"""The classes that a comparison of filters shows, chosen by what is confused."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.confusion import Answers, choose_classes


def answers(rows, classes=4):
    """Return answers of which each row is (label, predicted class, probability of class 3)."""
    logits = np.full((len(rows), classes), -9.0)
    for row, (_, predicted, last) in zip(logits, rows, strict=True):
        row[3] = np.log(last)
        row[predicted] = 0
    return Answers(np.array([label for label, *_ in rows]), logits)


def test_classes_are_chosen_from_the_confusion_matrix():
    rows = [(0, 0, 1e-6)] * 6 + [(0, 1, 1e-6)] * 3 + [(0, 2, 1e-6)] + [(1, 1, 1e-6)] * 9
    rows += [(1, 0, 1e-6)] + [(2, 2, 1e-6)] * 5 + [(3, 3, 1)] * 5
    asked = answers(rows)
    assert asked.counts().tolist() == [[6, 3, 1, 0], [1, 9, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5]]
    reference, similar, dissimilar = choose_classes(asked, tuple('abcd'))
    assert (reference.index, similar.index, dissimilar.index) == (0, 1, 3)
    assert reference.reason == 'missed most often, 4 of 10 times'
    assert 'confused with the reference most often, 4 times' in similar.reason
    assert [chosen.index for chosen in choose_classes(asked, tuple('abcd'), 1)][:2] == [1, 0]


def test_classes_never_confused_are_compared_by_their_probabilities():
    rows = [(0, 0, 1e-3)] * 4 + [(1, 1, 1e-6)] * 4 + [(2, 2, 1e-6)] * 4 + [(3, 3, 1)] * 4
    chosen = choose_classes(answers(rows), tuple('abcd'), 0)
    assert chosen[1].index == 3  # the only one that class 0 gives a probability to speak of
    assert 'probability' in chosen[1].reason and 'smallest' in chosen[2].reason


def test_sources_of_few_classes_leave_classes_out():
    rows = [(0, 0, 1e-6)] * 3
    assert [c.role for c in choose_classes(answers(rows), tuple('abcd'))] == ['reference']
    rows += [(2, 2, 1e-6)] * 3
    assert [c.role for c in choose_classes(answers(rows), tuple('abcd'))] == [
        'reference', 'similar'
    ]
    with pytest.raises(NavMonitorError, match="no image of class 'd'"):
        choose_classes(answers(rows), tuple('abcd'), 3)


def test_examples_are_the_most_certain_images():
    asked = answers([(0, 0, 0.4), (0, 0, 1e-6), (0, 1, 0.2), (0, 2, 1e-6), (1, 1, 1e-6)])
    assert asked.example(0, correct=True) == 1
    assert asked.example(0, correct=False) == 3
    assert asked.example(1, correct=False) is None
