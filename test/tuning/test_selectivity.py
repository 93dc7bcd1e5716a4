"""How selective a component is: each measure against its definition."""


import numpy as np
import pytest
import sklearn.metrics
from planted_network import (
    CLASSES,
    PLANTED,
    PREPROCESS,
    SILENCED,
    UNIFORM,
    Planted,
    measured,
    planted_images,
    recorded,
)

from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.tuning.recorder import (
    TuningOptions,
)
from nav_monitor_ros.tuning.selectivity import (
    MEASURES,
    class_selectivity_index,
    informedness,
    normalized_mutual_information,
    precision,
    selectivity,
)
from nav_monitor_ros.tuning.statistics import (
    PREDICTED,
    TRUE,
    LayerTuning,
)


def test_planted_uniform_and_dead_units_are_told_apart(tmp_path):
    seen = recorded(
        tmp_path / 'planted', Classifier(Planted(), PREPROCESS), planted_images(),
        TuningOptions(('penultimate', 'output')),
    ).checkpoint(0)
    assert seen.accuracy == 1.0
    found = measured(seen, 0)
    above = found.values > found.floors
    for number, name in enumerate(MEASURES):
        assert found.classes[number, PLANTED] == 3, name
        assert above[number, PLANTED], name
        assert not above[number, UNIFORM], name
    assert found.values[:3, PLANTED].tolist() == pytest.approx([1, 1, 1])
    assert seen.layers[0].dead.tolist()[:4] == [False, False, True, False]
    # Silence for class 1 tells much of it, but does not drive the unit.
    assert found.by_class[1, SILENCED] == 0
    assert found.values[0, SILENCED] == pytest.approx(0.2, abs=0.03)
    output = measured(seen, 1)
    assert output.values[0].tolist() == [1.0] * CLASSES
    assert output.classes[0].tolist() == list(range(CLASSES))


def test_informedness_is_youdens_best_threshold():
    rng = np.random.default_rng(3)
    bins = rng.integers(0, 12, (400, 5))
    labels = rng.integers(0, 3, 400)
    bins[:, 0] += labels == 2
    counts = np.stack([
        [np.bincount(column[labels == label], minlength=14) for column in bins.T]
        for label in range(3)
    ])
    found = informedness(counts)
    for label in range(3):
        for column in range(5):
            rates = sklearn.metrics.roc_curve(labels == label, bins[:, column])
            assert found[label, column] == pytest.approx(max(rates[1] - rates[0]))
    assert (informedness(np.zeros((3, 2, 4), int)) == 0).all()


def test_mutual_information_is_scikit_learns():
    rng = np.random.default_rng(4)
    bins, labels = rng.integers(0, 6, 500), rng.integers(0, 4, 500)
    bins[labels == 1] = 5
    counts = np.zeros((4, 1, 6), int)
    np.add.at(counts, (labels, 0, bins), 1)
    expected = sklearn.metrics.normalized_mutual_info_score(labels, bins)
    assert normalized_mutual_information(counts)[0] == pytest.approx(expected)
    assert normalized_mutual_information(np.zeros((4, 1, 6), int))[0] == 0


def test_class_selectivity_is_morcoss_index():
    means = np.array([[3.0, 0.0, 1.0], [1.0, 0.0, np.nan], [1.0, 0.0, 3.0]])
    values, classes = class_selectivity_index(means)
    assert values.tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert classes.tolist()[0] == 0 and classes.tolist()[2] == 2


def test_precision_is_the_commonest_class_among_the_top_images():
    values, classes = precision(np.array([[2, 2, 1, -1], [-1, -1, -1, -1]]), 3)
    assert values.tolist() == pytest.approx([2 / 3, 0])
    assert classes[0] == 2


def test_the_floor_is_what_shuffled_labels_reach(tmp_path):
    rng = np.random.default_rng(8)
    count = 400
    responses = np.maximum(rng.normal(0, 1, (count, 3)), 0).astype(np.float32)
    labels = rng.integers(0, 4, count)
    layer = LayerTuning.empty('layer', np.arange(3), 4)
    layer.add(responses, np.stack([labels, labels]), np.arange(count))
    found = selectivity(layer, TRUE, labels, np.bincount(labels), permutations=400)
    reached = []
    for _ in range(400):
        shuffled = rng.permutation(labels)
        other = LayerTuning.empty('layer', np.arange(3), 4)
        other.add(responses, np.stack([shuffled, shuffled]), np.arange(count))
        reached.append(
            selectivity(other, TRUE, shuffled, np.bincount(labels), permutations=0).values
        )
    expected = np.quantile(reached, 0.99, axis=0)
    for number, name in enumerate(MEASURES):
        if name != 'precision':  # its bound is the union over classes
            assert found.floors[number] == pytest.approx(expected[number], rel=0.15), name
    assert (found.floors[1] >= expected[1]).all()
    assert (found.floors[1] <= expected[1] + 0.05).all()


@pytest.mark.parametrize('kind', [TRUE, PREDICTED])
def test_labels_that_mean_nothing_stay_below_the_floor(kind):
    rng = np.random.default_rng(9)
    layer = LayerTuning.empty('layer', np.arange(200), CLASSES)
    labels = np.stack([rng.integers(0, CLASSES, 500)] * 2)
    layer.add(rng.normal(0, 1, (500, 200)).astype(np.float32), labels, np.arange(500))
    found = selectivity(layer, kind, labels[kind], np.bincount(labels[kind]))
    assert ((found.values > found.floors).mean(axis=1) < 0.05).all()
