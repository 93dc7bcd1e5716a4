"""P-values within cells of classes: which classes get a cell, and the budget of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.decision.class_conditional_p_values import (
    ClassConditionalPValues,
    assign_cells,
)
from nav_monitor_ros.decision.false_alarm_budget import (
    p_value_threshold,
)


def labels_of(*counts):
    """Return labels with so many images of class 0, 1, ..."""
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize(
    ('counts', 'least', 'cells'),
    [
        ((50, 50), 10, [0, 1]),
        ((50, 5, 50, 6), 10, [1, 0, 2, 0]),  # the small ones have enough together
        ((50, 5, 30, 4), 10, [1, 0, 0, 0]),  # they have not: the smallest other one joins them
        ((50, 5), 10, [0, 0]),
        ((3, 2), 10, [0, 0]),  # all together, however few: whether that does is checked elsewhere
        ((50, 0, 50), 10, [0, 0, 1]),  # a class that calibration never saw
        ((12,), 10, [0]),
    ],
)
def test_classes_with_images_enough_are_cells_and_the_others_share_one(counts, least, cells):
    assert assign_cells(labels_of(*counts), len(counts), least).tolist() == cells


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 30))
def test_every_cell_has_images_enough_if_there_are_any(counts, least):
    labels = labels_of(*counts)
    if not len(labels):
        return
    cells = assign_cells(labels, len(counts), least)
    sizes = np.bincount(cells[labels])
    assert np.array_equal(np.unique(cells), np.arange(len(sizes)))
    assert len(sizes) == 1 or sizes.min() >= least
    alone = np.flatnonzero(np.bincount(cells) == 1)
    # Nobody with too few images is alone, unless there is but one class.
    enough = [counts[int(np.flatnonzero(cells == c)[0])] >= least for c in alone]
    assert all(enough) or len(sizes) == 1


def test_a_frame_is_ranked_among_the_images_of_its_cell():
    labels = labels_of(3, 4, 2)
    scores = np.array([1.0, 2, 3, 10, 20, 30, 40, 5, 6])
    ranked = ClassConditionalPValues(scores, labels, np.array([0, 1, 0]))
    assert ranked.p_value(2.5, 0) == (1 + 3) / (5 + 1)  # 3 of class 0, 5 and 6 of class 2
    assert ranked.p_value(2.5, 2) == ranked.p_value(2.5, 0)
    assert ranked.p_value(25.0, 1) == (1 + 2) / (4 + 1)
    batch = ranked.p_values(np.array([2.5, 25.0, 2.5]), np.array([0, 1, 2]))
    assert batch.tolist() == [4 / 6, 3 / 5, 4 / 6]
    assert len(ranked) == 9 and ranked.pooled.p_value(100.0) == 1 / 10


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_p_values_are_super_uniform_in_every_cell_on_exchangeable_data(data):
    # The n + 1 images of a cell are exchangeable: each is as likely as another to be the new one,
    # so that the share of them with p <= u is the probability of it. Exact, for any ties.
    counts = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    labels = labels_of(*counts)
    cells = assign_cells(labels, len(counts), data.draw(st.integers(1, 12)))
    values = st.lists(st.integers(-3, 3), min_size=len(labels), max_size=len(labels))
    scores = np.array(data.draw(values), float)
    for cell in range(cells.max() + 1):
        members = np.flatnonzero(cells[labels] == cell)
        if len(members) < 2:
            continue
        p = []
        for new in members:
            rest = np.delete(np.arange(len(labels)), new)
            own = cells[labels[rest]] == cell
            # Only this cell matters, and an emptied other one is not to be built.
            nothing = np.zeros(own.sum(), int)
            ranked = ClassConditionalPValues(scores[rest][own], nothing, np.zeros(1, int))
            p.append(ranked.p_value(scores[new], 0))
        for u in p:
            assert np.mean(np.array(p) <= u) <= u + 1e-12


def test_every_class_keeps_the_budget_where_ranking_among_all_does_not():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 3.0])  # class 1 scores three times as high
    labels, fresh = rng.integers(0, 2, 4000), rng.integers(0, 2, 100_000)
    scores = scale[labels] * rng.exponential(size=4000)
    new = scale[fresh] * rng.exponential(size=100_000)
    rates = {}
    for way, cells in (('pooled', np.zeros(2, int)), ('own', np.arange(2))):
        ranked = ClassConditionalPValues(scores, labels, cells)
        flagged = ranked.p_values(new, fresh) <= ranked.thresholds(0.01, 0.95)[fresh]
        rates[way] = [flagged[fresh == label].mean() for label in (0, 1)]
    assert rates['pooled'][1] > 0.012 and rates['pooled'][0] < 0.001
    assert max(rates['own']) <= 0.01 and min(rates['own']) > 0.003


def test_thresholds_are_those_of_each_cells_size():
    labels = labels_of(600, 400, 600)
    ranked = ClassConditionalPValues(np.arange(1600.0), labels, np.array([0, 1, 1]))
    assert ranked.thresholds(0.01, 0.95).tolist() == [
        p_value_threshold(600, 0.01, 0.95), *2 * [p_value_threshold(1000, 0.01, 0.95)]
    ]


def test_it_comes_back_from_its_tensors_bit_for_bit():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 300)
    ranked = ClassConditionalPValues(rng.normal(size=300), labels, np.array([1, 0, 0, 2]))
    kept = {key: tensor.copy() for key, tensor in ranked.tensors().items()}
    again = ClassConditionalPValues.from_tensors(kept)
    scores, fresh = rng.normal(size=100), rng.integers(0, 4, 100)
    assert np.array_equal(again.p_values(scores, fresh), ranked.p_values(scores, fresh))
    assert np.array_equal(again.pooled.scores, ranked.pooled.scores)


@pytest.mark.parametrize(
    'spoiled',
    [
        {'offsets': np.array([0, 2])},
        {'offsets': np.array([0, 3, 3])},
        {'offsets': np.zeros(0, np.int64)},
        {'cells': np.array([0, 2])},
        {'cells': np.array([-1, 0])},
        {'cells': np.array([0.0, 1.0])},
        {'scores': np.zeros((2, 2))},
    ],
)
def test_tensors_that_contradict_each_other_are_refused(spoiled):
    labels = np.array([0, 0, 1, 1])
    good = ClassConditionalPValues(np.arange(4.0), labels, np.array([0, 1])).tensors()
    with pytest.raises(ValueError, match='inconsistent'):
        ClassConditionalPValues.from_tensors({**good, **spoiled})
