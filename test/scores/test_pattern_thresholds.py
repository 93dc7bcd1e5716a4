"""When a neuron is on, and what is stored of its patterns."""

from __future__ import annotations

import numpy as np
import pytest
from training_data import empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.registry import make_score


def make_pooled(n, seed=0):
    """Return features as after global average pooling of ReLU maps: all of them positive."""
    rng = np.random.default_rng(seed)
    features = rng.gamma(2.0, size=(n, 70)).astype(np.float32)
    head = make_head(4, 70)
    return Activations(features @ head.weight.T, features), head


def test_a_vacuous_layer_gets_quantiles_and_a_note():
    training, head = make_pooled(400)
    score = fitted('pattern', training, training.predicted, head)
    np.testing.assert_allclose(
        score.thresholds, np.quantile(training.features, 0.5, axis=0), rtol=1e-6
    )
    assert 'a pattern at 0 would carry little information' in score.notes()[0]
    on = (training.features > score.thresholds).mean(axis=0)
    np.testing.assert_allclose(on, 0.5, atol=0.01)


def test_a_vacuous_layer_is_refused_where_zero_is_asked_for():
    training, head = make_pooled(400)
    with pytest.raises(NavMonitorError, match='use threshold auto or quantile'):
        fitted('pattern', training, training.predicted, head, threshold='zero')


def test_plain_relu_features_keep_the_threshold_zero():
    training, labels, head = make_data(0, 300, classes=4, width=70)
    assert not fitted('pattern', training, labels, head).thresholds.any()


def test_a_bounded_number_of_patterns_does_not_depend_on_the_order():
    training, labels, head = make_data(0, 300, classes=4, width=70)
    order = np.random.default_rng(5).permutation(300)
    one = fitted('pattern', training, labels, head, max_patterns=10)
    two = fitted('pattern', training[order], labels[order], head, max_patterns=10)
    assert (np.diff(one.offsets) == 10).all()
    np.testing.assert_array_equal(one.patterns, two.patterns)


def test_many_batches_are_consolidated_and_equal_one():
    training, labels, head = make_data(0, 300, classes=4, width=70)
    whole = fitted('pattern', training, labels, head)
    score = make_score('pattern', {}, classes=4, width=70, head=head)
    score.prepare(training, labels)
    for _ in range(3):
        for i in range(0, 300, 7):
            score.update(training[i : i + 7], labels[i : i + 7])
    score.finish()
    np.testing.assert_array_equal(score.patterns, whole.patterns)


def test_inconsistent_offsets_are_refused():
    training, labels, head = make_data(0, 100, classes=4, width=70)
    tensors = fitted('pattern', training, labels, head).tensors()
    tensors['offsets'] = tensors['offsets'] + 1
    with pytest.raises(NavMonitorError, match='inconsistent'):
        make_score('pattern', {}, classes=4, width=70, head=head).restore(tensors)


@pytest.mark.parametrize(('key', 'kind'), [('offsets', np.float32), ('patterns', np.float32)])
def test_tensors_of_another_type_are_refused(key, kind):
    training, labels, head = make_data(0, 100, classes=4, width=70)
    tensors = fitted('pattern', training, labels, head).tensors()
    tensors[key] = tensors[key].astype(kind)
    with pytest.raises(NavMonitorError, match=f"'{key}' of type float32; fit it again"):
        empty('pattern', head).restore(tensors)
