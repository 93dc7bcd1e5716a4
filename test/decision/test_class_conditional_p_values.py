"""p-values within cells of classes: which classes get a cell, and that each cell keeps its word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.decision.calibration import CalibrationOptions, CalibrationScores, calibrate
from nav_monitor_ros.decision.class_conditional_p_values import (
    ClassConditionalPValues,
    assign_cells,
)
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.false_alarm_budget import (
    effective_sample_size,
    images_for_a_class,
    images_needed,
    p_value_threshold,
)
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.errors import NavMonitorError


def labels_of(*counts):
    """Return labels with so many images of class 0, 1, ..."""
    return np.repeat(np.arange(len(counts)), counts)


# Which classes get a cell of their own.


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


@pytest.mark.parametrize(('alpha', 'confidence'), [(0.01, 0.95), (0.05, 0.9), (0.001, 0.99)])
def test_a_class_of_its_own_can_use_half_of_its_budget(alpha, confidence):
    n = images_for_a_class(alpha, confidence)
    assert p_value_threshold(n, alpha, confidence) >= alpha / 2
    assert n >= images_needed(alpha, confidence)
    assert p_value_threshold(round(0.9 * n), alpha, confidence) < alpha / 2


# The p-values.


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


# Images that come in groups.


def test_independent_images_are_worth_their_number():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=1000)
    assert effective_sample_size(scores, np.arange(1000)) == 1000
    # Groups that mean nothing cost next to nothing.
    assert effective_sample_size(scores, np.arange(1000) // 10) > 700


def test_copies_are_worth_one_each():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200)
    worth = effective_sample_size(np.repeat(scores, 10), np.repeat(np.arange(200), 10))
    assert 190 <= worth <= 200
    assert effective_sample_size(scores, np.zeros(200)) == 1


def test_scores_that_are_mostly_tied_are_not_worth_more_for_that():
    scores = np.zeros(1000)
    scores[:20] = 1.0  # all of the high ones are in one group of 50
    assert effective_sample_size(scores, np.arange(1000) // 20) < 100
    assert effective_sample_size(np.zeros(1000), np.arange(1000) // 20) == 50


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.data())
def test_the_worth_is_a_number_of_images(scores, data):
    groups = data.draw(
        st.lists(st.integers(0, 5), min_size=len(scores), max_size=len(scores))
    )
    assert 1 <= effective_sample_size(np.array(scores, float), np.array(groups)) <= len(scores)


def track_scores(rng, tracks, frames=10):
    """Return two scores of tracks whose frames are nearly alike, and each frame's track."""
    track = rng.normal(size=tracks).repeat(frames)
    scores = {name: track + 0.1 * rng.normal(size=len(track)) for name in 'ab'}
    return scores, np.arange(tracks).repeat(frames)


def calibrated(rng, tracks, *, grouped, alpha=0.02):
    first, first_groups = track_scores(rng, tracks // 2)
    second, second_groups = track_scores(rng, tracks)
    sets = (
        CalibrationScores(scores, np.zeros(len(groups), int), groups if grouped else None)
        for scores, groups in ((first, first_groups), (second, second_groups))
    )
    options = CalibrationOptions(fusion_members=('a', 'b'), alpha=alpha, confidence=0.9)
    return calibrate(*sets, classes=1, options=options)


@pytest.mark.parametrize('grouped', [False, True])
def test_the_budget_of_tracks_is_kept_where_they_are_known(grouped):
    rng = np.random.default_rng(0)
    fresh, _ = track_scores(rng, 20_000, frames=1)
    labels = np.zeros(20_000, int)
    held = []
    for _ in range(60):
        calibration = calibrated(rng, 150, grouped=grouped)
        p = calibration.p_values(fresh, labels)['fused']
        held.append(np.mean(p <= calibration.thresholds['fused'][0]) <= 0.02)
    assert (np.mean(held) >= 0.85) == grouped  # promised: 90 %


def test_too_few_tracks_are_refused_with_what_they_are_worth():
    rng = np.random.default_rng(0)
    with pytest.raises(NavMonitorError, match=r'1000 calibration images are worth \d+ independent'):
        calibrated(rng, 100, grouped=True, alpha=0.01)
    assert calibrated(rng, 100, grouped=False, alpha=0.01).effective_size == 1000


def test_a_single_score_with_too_few_independent_images_has_no_threshold_and_cannot_decide():
    rng = np.random.default_rng(0)
    groups = np.arange(40).repeat(10)
    independent = {'good': rng.normal(size=400)}
    alike = {'bad': rng.normal(size=40).repeat(10)}
    scores = {**independent, **alike}
    labels = np.zeros(400, int)
    images = CalibrationScores(scores, labels, groups)
    options = CalibrationOptions(fusion_members=('good',), alpha=0.02, confidence=0.95)
    calibration = calibrate(images, images, classes=1, options=options)
    assert set(calibration.thresholds) == {'good', 'fused'}
    with pytest.raises(NavMonitorError, match="score 'bad' cannot decide"):
        Judge({'good': None, 'bad': None}, calibration, ['one'], decisive='bad')


# One frame.


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=60),
    st.lists(st.floats(-50, 50), min_size=1, max_size=20),
)
def test_minus_log_p_of_one_frame_is_that_of_a_batch(calibration, scores):
    conformal = ConformalPValues(np.array(calibration))
    expected = conformal.neg_log_p_values(np.array(scores))
    np.testing.assert_allclose([conformal.neg_log_p_value(s) for s in scores], expected, rtol=1e-12)
