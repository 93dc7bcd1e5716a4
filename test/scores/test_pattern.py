"""Distance to stored patterns, against brute force and a binary decision diagram."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from formulas import assert_equals, assert_refuses_foreign_tensors, correct_features
from training_data import CLASSES, WIDTH, as_class, empty, fitted, make_data

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.registry import make_score


def formula(training, labels, test, head, thresholds=0.0, monitored=None):
    result = []
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        mask = np.ones(len(feature), bool) if monitored is None else monitored[predicted]
        query = feature > thresholds
        result.append(
            min(
                (
                    sum(bool(a != b) for a, b in zip(query[mask], row[mask], strict=True))
                    for row in correct_features(training, labels, predicted) > thresholds
                ),
                default=int(mask.sum()) + 1,
            )
        )
    return np.array(result, float)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('pattern', formula, rectified=rectified)


@pytest.mark.parametrize('select', [0.0, 0.4])
@pytest.mark.parametrize('rule', ['zero', 'quantile'])
def test_a_pattern_is_known_where_the_enlarged_decision_diagram_says_so(rule, select):
    autoref = pytest.importorskip('dd.autoref')
    training, labels, head = make_data(6, 60, rectified=True)
    labels[training.predicted == 2] = 0  # class 2 has no correct image
    score = fitted(
        'pattern', training, labels, head, threshold=rule, quantile=0.7, select=select
    )
    thresholds = np.zeros(WIDTH)
    if rule == 'quantile':
        thresholds = np.quantile(training.features, 0.7, axis=0)
    table = np.array(list(itertools.product([False, True], repeat=WIDTH)))
    # A neuron at its threshold is off.
    at = np.where(table, thresholds + 0.5, thresholds).astype(np.float32)
    some = np.random.default_rng(0).choice(len(table), 40, replace=False)
    for label in range(CLASSES):
        strength = np.abs(head.weight[label])
        names = {
            i: f'x{i}' for i in range(WIDTH) if not select or strength[i] > select * strength.max()
        }
        assert (len(names) < WIDTH) == bool(select)
        manager = autoref.BDD()
        manager.declare(*names.values())
        stored = manager.false
        for row in correct_features(training, labels, label) > thresholds.astype(np.float32):
            stored |= manager.cube({name: bool(row[i]) for i, name in names.items()})
        distances = score.score(as_class(Activations(at, at), label))
        for gamma in range(4):
            members = manager.count(stored, nvars=len(names)) << (WIDTH - len(names))
            assert (distances <= gamma).sum() == members
            for row, distance in zip(table[some], distances[some], strict=True):
                values = {name: bool(row[i]) for i, name in names.items()}
                assert (manager.let(values, stored) == manager.true) == (distance <= gamma)
            # Cheng et al., 2019: one more bit may be anything.
            enlarged = stored
            for name in names.values():
                enlarged |= manager.exist([name], stored)
            stored = enlarged


@pytest.mark.parametrize('select', [0.0, 0.4])
@pytest.mark.parametrize('rule', ['zero', 'quantile'])
def test_distances_of_patterns_equal_brute_force(rule, select):
    training, labels, head = make_data(6, 60, rectified=True)
    labels[training.predicted == 2] = 0
    test, _, _ = make_data(7, 100, rectified=True)
    thresholds = 0.0
    if rule == 'quantile':
        thresholds = np.quantile(training.features, 0.7, axis=0).astype(np.float32)
    strength = np.abs(head.weight)
    monitored = strength > select * strength.max(axis=1, keepdims=True) if select else None
    score = fitted(
        'pattern', training, labels, head, threshold=rule, quantile=0.7, select=select
    )
    expected = formula(training, labels, test, head, thresholds, monitored)
    assert score.score(test).tolist() == expected.tolist()
    for gamma in range(4):
        score.options = replace(score.options, gamma=gamma)
        assert score.out_of_pattern(test).tolist() == (expected > gamma).tolist()


def test_distances_equal_the_papers_definition():
    training, labels, head = make_data(0, 400, classes=4, width=70)
    test, _, _ = make_data(1, 150, classes=4, width=70)
    score = fitted('pattern', training, labels, head)
    np.testing.assert_array_equal(score.score(test), formula(training, labels, test, head))


@pytest.mark.parametrize('gamma', [0, 1, 2, 3, 20])
def test_known_means_within_gamma_bits(gamma):
    training, labels, head = make_data(0, 400, classes=4, width=70)
    test, _, _ = make_data(1, 150, classes=4, width=70)
    score = fitted('pattern', training, labels, head, gamma=gamma, select=0.5)
    strength = np.abs(head.weight)
    monitored = strength > 0.5 * strength.max(axis=1)[:, None]
    expected = formula(training, labels, test, head, monitored=monitored) > gamma
    np.testing.assert_array_equal(score.out_of_pattern(test), expected)
    assert gamma >= 3 or expected.any()


def test_correctly_classified_training_images_are_known_and_others_are_not_stored():
    training, labels, head = make_data(0, 400, classes=4, width=70)
    score = fitted('pattern', training, labels, head)
    correct = training.predicted == labels
    assert not score.out_of_pattern(training[correct]).any()
    assert score.out_of_pattern(training[~correct]).all()
    assert score.offsets[-1] == correct.sum()  # all 70-bit patterns differ here


def test_a_class_never_predicted_correctly_makes_everything_out_of_pattern():
    training, labels, head = make_data(0, 200, classes=4, width=70)
    labels[training.predicted == 2] = 3
    score = fitted('pattern', training, labels, head)
    frame = training[training.predicted == 2][:1]
    assert score.score_frame(frame) == 70 + 1
    assert score.nearest(frame.features[0], 2)[2] == 70 + 1
    assert 'class 2 has no pattern' in ' '.join(score.notes())
    assert 'class right has no pattern' in ' '.join(score.notes(('a', 'b', 'right', 'd')))


def test_the_nearest_pattern_is_one_that_training_had():
    training, labels, head = make_data(0, 200, classes=4, width=70)
    test, _, _ = make_data(1, 1, classes=4, width=70)
    score = fitted('pattern', training, labels, head)
    label = int(test.predicted[0])
    pattern, nearest, distance = score.nearest(test.features[0], label)
    np.testing.assert_array_equal(pattern, test.features[0] > 0)
    assert (pattern != nearest).sum() == distance == score.score_frame(test)
    own = training.features[(training.predicted == labels) & (labels == label)] > 0
    assert (own == nearest).all(axis=1).any()


def test_a_neuron_at_the_ratio_is_not_selected():
    weight = np.array([[1, 0.5, -0.75], [-4, 2, 2.5]], np.float32)
    score = empty('pattern', Head(weight, np.zeros(2, np.float32)), select=0.5)
    assert score.monitored.tolist() == [[True, False, True], [True, False, True]]


@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.9])
def test_neurons_are_chosen_for_each_class_by_the_heads_weights(ratio):
    training, labels, head = make_data(0, 400, classes=4, width=70)
    test, _, _ = make_data(1, 150, classes=4, width=70)
    strength = np.abs(head.weight)
    monitored = strength > ratio * strength.max(axis=1)[:, None]
    score = fitted('pattern', training, labels, head, select=ratio)
    np.testing.assert_array_equal(score.monitored, monitored)
    expected = formula(training, labels, test, head, monitored=monitored)
    np.testing.assert_array_equal(score.score(test), expected)


def test_selection_without_the_heads_weights_is_refused():
    with pytest.raises(NavMonitorError, match='select'):
        make_score('pattern', {'select': 0.5}, classes=2, width=8, head=None)


@pytest.mark.parametrize(
    'options',
    [{'threshold': 'one'}, {'quantile': 0}, {'select': 1.0}, {'gamma': -1}, {'max_patterns': -1}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(NavMonitorError, match='pattern'):
        make_score('pattern', options, classes=2, width=8, head=None)


def test_tensors_of_another_network_are_refused():
    assert_refuses_foreign_tensors('pattern')
