"""Every score against its formula, written out slowly; and the interface that all share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores import bits
from nav_monitor_ros.scores.registry import make_score

CLASSES, WIDTH = 4, 70  # more than one word of bits, and not a whole number of words
OPTIONS = {'channel_means': {'layers': ['stem', 'body']}}  # that a score cannot do without


def make_data(seed, n, *, width=WIDTH, classes=CLASSES):
    """Return a linear classifier on ReLU features and n images with 1 in 5 labels wrong."""
    rng = np.random.default_rng(seed)
    weight = np.random.default_rng(99).normal(size=(classes, width)).astype(np.float32)
    features = np.maximum(rng.normal(size=(n, width)), 0).astype(np.float32)
    logits = features @ weight.T
    labels = logits.argmax(axis=1)
    wrong = rng.random(n) < 0.2
    labels[wrong] = (labels[wrong] + 1) % classes
    head = Head(weight, np.zeros(classes, np.float32))
    means = {
        'stem': rng.gamma(2.0, size=(n, 3)).astype(np.float32),
        'body': (features[:, :5] + rng.normal(size=(n, 5))).astype(np.float32),
    }
    return Activations(logits, features, means), labels, head


def fitted(name, activations, labels, head, **options):
    score = empty(name, head, **options)
    score.prepare(activations, labels)
    score.update(activations, labels)
    score.finish()
    return score


def empty(name, head, **options):
    classes, width = head.weight.shape
    settings = {**OPTIONS.get(name, {}), **options}
    return make_score(name, settings, classes=classes, width=width, head=head)


def slow_distances(training, labels, test, *, monitored=None):
    """Hamming distances by the paper's definition, one pair of booleans at a time."""
    known = [[] for _ in range(training.logits.shape[1])]
    for feature, predicted, label in zip(
        training.features, training.predicted, labels, strict=True
    ):
        if predicted == label:
            known[label].append(feature > 0)
    distances = []
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        mask = np.ones(len(feature), bool) if monitored is None else monitored[predicted]
        query = feature > 0
        distances.append(
            min(
                (int(((query != stored) & mask).sum()) for stored in known[predicted]),
                default=int(mask.sum()) + 1,
            )
        )
    return distances


# What all scores share is in test_scores_properties.py; here is what single ones promise.


@pytest.mark.parametrize('name', ['pattern', 'gaussian'])
def test_no_correct_image_is_refused(name):
    training, _, head = make_data(0, 50)
    with pytest.raises(NavMonitorError, match='no training image was classified correctly'):
        fitted(name, training, (training.predicted + 1) % CLASSES, head)


def test_an_unknown_score_or_option_is_named():
    with pytest.raises(NavMonitorError, match="no score 'knm'"):
        make_score('knm', {}, classes=2, width=2, head=None)
    with pytest.raises(NavMonitorError, match='gama'):
        make_score('pattern', {'gama': 1}, classes=2, width=2, head=None)


@pytest.mark.parametrize('name', ['pattern', 'gaussian'])
def test_fitted_tensors_of_another_network_are_refused(name):
    training, labels, head = make_data(0, 100)
    tensors = fitted(name, training, labels, head).tensors()
    other = make_score(name, {}, classes=CLASSES, width=WIDTH + 64, head=None)
    with pytest.raises(NavMonitorError, match='fit it again'):
        other.restore(tensors)
    with pytest.raises(NavMonitorError, match='lacks'):
        make_score(name, {}, classes=CLASSES, width=WIDTH, head=None).restore({})


# Logits.


def test_energy_and_softmax_probability_equal_their_formulas():
    test, _, head = make_data(2, 50)
    logits = test.logits.astype(np.float64)
    energy = fitted('energy', test, test.predicted, head).score(test)
    np.testing.assert_allclose(energy, -logsumexp(logits, axis=1), rtol=1e-12)
    msp = fitted('msp', test, test.predicted, head).score(test)
    np.testing.assert_allclose(msp, -log_softmax(logits, axis=1).max(axis=1), rtol=1e-9, atol=1e-12)


def test_softmax_probability_resolves_what_rounds_to_one():
    sure = Activations(np.array([[90.0, 0.0], [80.0, 0.0]], np.float32), np.zeros((2, 1), 'f'))
    surer, less_sure = make_score('msp', {}, classes=2, width=1, head=None).score(sure)
    assert 0 <= surer <= less_sure


# Gaussian.


def test_gaussian_equals_the_likelihood_under_the_predicted_class():
    training, labels, head = make_data(0, 500)
    test, _, _ = make_data(1, 20)
    score = fitted('gaussian', training, labels, head, floor=1e-9)
    correct = training.predicted == labels
    expected = []
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        own = training.features[correct & (labels == predicted)].astype(np.float64)
        mean, std = own.mean(axis=0), own.std(axis=0)
        expected.append(-norm.logpdf(feature, mean, std).sum())
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4)
    np.testing.assert_allclose(
        score.z_scores(test.features[0], int(test.predicted[0])),
        (test.features[0] - score.mean[test.predicted[0]])
        / np.sqrt(score.variance[test.predicted[0]]),
    )


def test_large_means_do_not_cost_the_variance_its_digits():
    training, labels, head = make_data(0, 500)
    shifted = Activations(training.logits, training.features + np.float32(4096), training.means)
    plain = fitted('gaussian', training, labels, head)
    moved = fitted('gaussian', shifted, labels, head)
    np.testing.assert_allclose(moved.variance, plain.variance, rtol=0.01)


def test_a_neuron_constant_in_training_weighs_much_but_not_infinitely():
    training, labels, head = make_data(0, 200)
    training.features[:, 3] = 0.0
    score = fitted('gaussian', training, labels, head, floor=0.01)
    deviating = Activations(training.logits[:1], training.features[:1].copy())
    before = score.score_frame(deviating)
    deviating.features[0, 3] = 1.0
    assert 1.0 < score.score_frame(deviating) - before < 1000.0


def test_a_class_without_correct_images_uses_the_pooled_gaussian_and_says_so():
    training, labels, head = make_data(0, 200)
    labels[training.predicted == 2] = 3
    score = fitted('gaussian', training, labels, head)
    assert score.count[2] == 0
    assert 'classes 2 have' in score.notes()[0]
    assert np.isfinite(score.score(training)).all()


# Channel means.


def test_channel_means_equal_the_mahalanobis_distance_of_each_layer():
    training, labels, head = make_data(0, 500)
    test, _, _ = make_data(1, 20)
    score = fitted('channel_means', training, labels, head, shrinkage=0.05)
    expected = np.zeros(20)
    for layer in ('stem', 'body'):
        mean = training.means[layer].mean(axis=0, dtype=np.float64)
        covariance = np.cov(training.means[layer].T.astype(np.float64), bias=True)
        channels = len(mean)
        shrunk = 0.95 * covariance + 0.05 * np.trace(covariance) / channels * np.eye(channels)
        deviation = test.means[layer] - mean
        expected += np.einsum(
            'ni,ij,nj->n', deviation, np.linalg.inv(shrunk), deviation
        ) / channels
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4)


def test_channel_means_without_a_layer_to_watch_are_refused():
    training, labels, head = make_data(0, 50)
    with pytest.raises(NavMonitorError, match='leave this score out'):
        fitted('channel_means', training, labels, head, layers=[])


# Patterns.


def test_distances_equal_the_papers_definition():
    training, labels, head = make_data(0, 400)
    test, _, _ = make_data(1, 150)
    score = fitted('pattern', training, labels, head)
    assert score.score(test).tolist() == slow_distances(training, labels, test)


@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.9])
def test_neurons_are_chosen_for_each_class_by_the_heads_weights(ratio):
    training, labels, head = make_data(0, 400)
    test, _, _ = make_data(1, 150)
    strength = np.abs(head.weight)
    monitored = strength > ratio * strength.max(axis=1)[:, None]
    score = fitted('pattern', training, labels, head, select=ratio)
    np.testing.assert_array_equal(score.monitored, monitored)
    assert score.score(test).tolist() == slow_distances(
        training, labels, test, monitored=monitored
    )


@pytest.mark.parametrize('gamma', [0, 1, 2, 3, 20])
def test_known_means_within_gamma_bits(gamma):
    training, labels, head = make_data(0, 400)
    test, _, _ = make_data(1, 150)
    score = fitted('pattern', training, labels, head, gamma=gamma, select=0.5)
    strength = np.abs(head.weight)
    monitored = strength > 0.5 * strength.max(axis=1)[:, None]
    expected = np.array(slow_distances(training, labels, test, monitored=monitored)) > gamma
    np.testing.assert_array_equal(score.out_of_pattern(test), expected)
    assert gamma >= 3 or expected.any()


def test_correctly_classified_training_images_are_known_and_others_are_not_stored():
    training, labels, head = make_data(0, 400)
    score = fitted('pattern', training, labels, head)
    correct = training.predicted == labels
    assert not score.out_of_pattern(training[correct]).any()
    assert score.out_of_pattern(training[~correct]).all()
    assert score.offsets[-1] == correct.sum()  # all 70-bit patterns differ here


def test_a_class_never_predicted_correctly_makes_everything_out_of_pattern():
    training, labels, head = make_data(0, 200)
    labels[training.predicted == 2] = 3
    score = fitted('pattern', training, labels, head)
    frame = training[training.predicted == 2][:1]
    assert score.score_frame(frame) == WIDTH + 1
    assert score.nearest(frame.features[0], 2)[2] == WIDTH + 1
    assert 'classes 2 have no pattern' in ' '.join(score.notes())


def test_the_nearest_pattern_is_one_that_training_had():
    training, labels, head = make_data(0, 200)
    test, _, _ = make_data(1, 1)
    score = fitted('pattern', training, labels, head)
    label = int(test.predicted[0])
    pattern, nearest, distance = score.nearest(test.features[0], label)
    np.testing.assert_array_equal(pattern, test.features[0] > 0)
    assert (pattern != nearest).sum() == distance == score.score_frame(test)
    own = training.features[(training.predicted == labels) & (labels == label)] > 0
    assert (own == nearest).all(axis=1).any()


def make_pooled(n, seed=0):
    """Features as after global average pooling of ReLU maps: all of them positive."""
    rng = np.random.default_rng(seed)
    features = rng.gamma(2.0, size=(n, WIDTH)).astype(np.float32)
    _, _, head = make_data(0, 1)
    return Activations(features @ head.weight.T, features), head


def test_a_vacuous_layer_gets_quantiles_and_a_note():
    training, head = make_pooled(400)
    score = fitted('pattern', training, training.predicted, head)
    np.testing.assert_allclose(
        score.thresholds, np.quantile(training.features, 0.5, axis=0), rtol=1e-6
    )
    assert 'a pattern at 0 would say little' in score.notes()[0]
    on = (training.features > score.thresholds).mean(axis=0)
    np.testing.assert_allclose(on, 0.5, atol=0.01)


def test_a_vacuous_layer_is_refused_where_zero_is_asked_for():
    training, head = make_pooled(400)
    with pytest.raises(NavMonitorError, match='use threshold auto or quantile'):
        fitted('pattern', training, training.predicted, head, threshold='zero')


def test_plain_relu_features_keep_the_threshold_zero():
    training, labels, head = make_data(0, 300)
    assert not fitted('pattern', training, labels, head).thresholds.any()


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


def test_a_bounded_number_of_patterns_does_not_depend_on_the_order():
    training, labels, head = make_data(0, 300)
    order = np.random.default_rng(5).permutation(300)
    one = fitted('pattern', training, labels, head, max_patterns=10)
    two = fitted('pattern', training[order], labels[order], head, max_patterns=10)
    assert (np.diff(one.offsets) == 10).all()
    np.testing.assert_array_equal(one.patterns, two.patterns)


def test_many_batches_are_consolidated_and_equal_one():
    training, labels, head = make_data(0, 300)
    whole = fitted('pattern', training, labels, head)
    score = make_score('pattern', {}, classes=CLASSES, width=WIDTH, head=head)
    score.prepare(training, labels)
    for _ in range(3):
        for i in range(0, 300, 7):
            score.update(training[i : i + 7], labels[i : i + 7])
    score.finish()
    np.testing.assert_array_equal(score.patterns, whole.patterns)


def test_inconsistent_offsets_are_refused():
    training, labels, head = make_data(0, 100)
    tensors = fitted('pattern', training, labels, head).tensors()
    tensors['offsets'] = tensors['offsets'] + 1
    with pytest.raises(NavMonitorError, match='inconsistent'):
        make_score('pattern', {}, classes=CLASSES, width=WIDTH, head=head).restore(tensors)


@pytest.mark.parametrize(('key', 'kind'), [('offsets', np.float32), ('patterns', np.float32)])
def test_tensors_of_another_type_are_refused(key, kind):
    training, labels, head = make_data(0, 100)
    tensors = fitted('pattern', training, labels, head).tensors()
    tensors[key] = tensors[key].astype(kind)
    with pytest.raises(NavMonitorError, match=f"'{key}' of type float32; fit it again"):
        empty('pattern', head).restore(tensors)


# Bits.


@given(
    st.integers(1, 200).flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=5
        )
    )
)
def test_packing_keeps_every_bit_and_counts_them(rows):
    array = np.array(rows)
    packed = bits.pack(array)
    assert packed.dtype == np.uint64
    np.testing.assert_array_equal(bits.unpack(packed, array.shape[1]), array)
    np.testing.assert_array_equal(bits.popcount(packed), array.sum(axis=1))


def test_the_popcount_table_equals_the_instruction(monkeypatch):
    words = np.random.default_rng(0).integers(0, 1 << 63, (50, 3)).astype(np.uint64)
    expected = [sum(bin(int(w)).count('1') for w in row) for row in words]
    assert bits.popcount(words).tolist() == expected
    table = np.array([bin(value).count('1') for value in range(1 << 16)], np.uint8)
    monkeypatch.setattr(bits, '_POPCOUNT_16', table)
    assert bits.popcount(words).tolist() == expected


