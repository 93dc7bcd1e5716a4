"""Every score against its formula, written out slowly, against other libraries, and at the edges.

pytorch-ood and dd are optional: without them the tests that use them are skipped.
"""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy, norm
from sklearn.covariance import EmpiricalCovariance, shrunk_covariance
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import NearestNeighbors

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import NotApplicableError
from nav_monitor_ros.scores.registry import SCORES, make_score

CLASSES, WIDTH, PASSES = 3, 12, 6
LAYERS = ['stem', 'body']
NEEDED = {'channel_means': {'layers': LAYERS}}  # options that a score cannot do without
WITH_HEAD = ['vim', 'fdbd', 'react', 'ash', 'scale']  # ask what enters the head


def make_head(classes=CLASSES, width=WIDTH, *, rectified=False):
    rng = np.random.default_rng(7)
    weight = rng.normal(size=(classes, width)).astype(np.float32)
    return Head(weight, rng.normal(size=classes).astype(np.float32), rectified)


def activate(head, features, rng, logits=None):
    """Return all that the scores ask for, of a network with this head."""
    features = np.asarray(features, np.float32)
    logits = head.logits(head.entering(features)) if logits is None else logits
    count = len(features)
    noise = rng.normal(size=(count, PASSES, logits.shape[1])).astype(np.float32)
    means = {
        'stem': rng.gamma(2.0, size=(count, 3)).astype(np.float32),
        'body': features[:, :1] + rng.normal(size=(count, 4)).astype(np.float32),
    }
    return Activations(
        logits,
        features,
        means,
        samples=logits[:, None] + noise,
        background=rng.normal(size=count).astype(np.float32),
    )


def make_data(seed, n, *, classes=CLASSES, width=WIDTH, rectified=False):
    """Return n images, about 1 in 5 classified wrongly, their labels and the head."""
    rng = np.random.default_rng(seed)
    head = make_head(classes, width, rectified=rectified)
    features = rng.normal(size=(n, width)) * np.linspace(0.5, 2, width)
    activations = activate(head, features if rectified else np.maximum(features, 0), rng)
    labels = activations.predicted
    wrong = rng.random(n) < 0.2
    labels[wrong] = (labels[wrong] + 1) % classes
    return activations, labels, head


def as_class(activations, label, classes=CLASSES):
    """Return the same features, all of them predicted as one class."""
    logits = np.zeros((len(activations), classes), np.float32)
    logits[:, label] = 5.0
    return Activations(logits, activations.features)


def empty(name, head, **options):
    classes, width = head.weight.shape
    settings = {**NEEDED.get(name, {}), **options}
    return make_score(name, settings, classes=classes, width=width, head=head)


def fitted(name, training, labels, head, **options):
    score = empty(name, head, **options)
    score.prepare(training, labels)
    score.update(training, labels)
    score.finish()
    return score


# The formulas, in double precision and one image at a time.


def double(array):
    return np.asarray(array, np.float64)


def own(training, labels, label):
    """Return the features of a class's correctly classified images."""
    return double(training.features[(training.predicted == labels) & (labels == label)])


def enters(head, features):
    return np.where(double(features) > 0, double(features), 0) if head.rectified else double(
        features
    )


def slow_free_energy(logits, temperature=1.0):
    return np.array([
        -temperature * math.log(math.fsum(math.exp(float(logit) / temperature) for logit in row))
        for row in logits
    ])


def slow_logits(head, entering):
    return double(entering) @ double(head.weight).T + double(head.bias)


def slow_pattern(training, labels, test, head, thresholds=0.0, monitored=None):
    result = []
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        mask = np.ones(len(feature), bool) if monitored is None else monitored[predicted]
        query = feature > thresholds
        result.append(
            min(
                (
                    sum(bool(a != b) for a, b in zip(query[mask], row[mask], strict=True))
                    for row in own(training, labels, predicted) > thresholds
                ),
                default=int(mask.sum()) + 1,
            )
        )
    return np.array(result, float)


def slow_pattern_soft(training, labels, test, head, thresholds=0.0):
    result = []
    for feature, predicted in zip(test.features, test.predicted, strict=True):
        rows = own(training, labels, predicted) > thresholds
        rate = (rows.sum(axis=0) + 1) / (len(rows) + 2)
        on = feature > thresholds
        result.append(-np.log(rate[on]).sum() - np.log(1 - rate[~on]).sum())
    return np.array(result)


def slow_gaussians(training, labels, classes=CLASSES, floor=0.01):
    """Return mean and variance of each class; those of all correct images where it has none."""
    correct = double(training.features[training.predicted == labels])
    mean = np.tile(correct.mean(axis=0), (classes, 1))
    variance = np.tile(correct.var(axis=0), (classes, 1))
    for label in range(classes):
        rows = own(training, labels, label)
        if len(rows):
            mean[label] = rows.mean(axis=0)
        if len(rows) > 1:
            variance[label] = rows.var(axis=0)
    return mean, np.maximum(variance, floor * correct.var(axis=0).mean())


def slow_gaussian(training, labels, test, head, floor=0.01):
    mean, variance = slow_gaussians(training, labels, floor=floor)
    return np.array([
        -norm.logpdf(double(feature), mean[label], np.sqrt(variance[label])).sum()
        for feature, label in zip(test.features, test.predicted, strict=True)
    ])


def slow_window_kl(training, labels, test, head, window=10, max_age=300, floor=0.01):
    """Frames that the window lacks have the mean and the variance of training."""
    mean, variance = slow_gaussians(training, labels, floor=floor)
    result = []
    for now, label in enumerate(test.predicted):
        since = max(0, now - max_age + 1)
        recent = [i for i in range(since, now + 1) if test.predicted[i] == label]
        rows = [double(test.features[i]) for i in recent[-window:]]
        first = sum(rows) + (window - len(rows)) * mean[label]
        second = sum(row**2 for row in rows) + (window - len(rows)) * (
            variance[label] + mean[label] ** 2
        )
        m = first / window
        v = np.maximum(second / window - m**2, floor * variance[label])
        s = variance[label]
        result.append((0.5 * (np.log(s / v) + (v + (m - mean[label]) ** 2) / s - 1)).sum())
    return np.array(result)


def slow_boxes(boxes, scale, test):
    """Return distances to the nearest of each class's boxes, pairs (low, high)."""
    result = []
    for feature, label in zip(double(test.features), test.predicted, strict=True):
        distances = []
        for low, high in boxes[label]:
            square = 0.0
            for value, least, most, unit in zip(feature, low, high, scale, strict=True):
                square += (max(least - value, 0.0, value - most) / unit) ** 2
            distances.append(math.sqrt(square))
        result.append(min(distances))
    return np.array(result)


def slow_box(training, labels, test, head):
    boxes = []
    for label in range(CLASSES):
        rows = own(training, labels, label)
        boxes.append([(rows.min(axis=0), rows.max(axis=0))])
    scale = double(training.features[training.predicted == labels]).std(axis=0)
    return slow_boxes(boxes, scale, test)


def class_distances(training, labels, test, shrinkage):
    """Return squared distances to each class by scikit-learn, (C, N)."""
    features, means = double(training.features), {}
    for label in np.unique(labels):
        means[label] = features[labels == label].mean(axis=0)
    centred = features - np.stack([means[label] for label in labels])
    estimate = EmpiricalCovariance(assume_centered=True).fit(centred)
    estimate._set_covariance(shrunk_covariance(estimate.covariance_, shrinkage))
    return np.stack(
        [estimate.mahalanobis(double(test.features) - mean) for mean in means.values()]
    )


def slow_mahalanobis(training, labels, test, head, shrinkage=0.001):
    return class_distances(training, labels, test, shrinkage).min(axis=0)


def slow_relative_mahalanobis(training, labels, test, head, shrinkage=0.001):
    whole = class_distances(training, np.zeros_like(labels), test, shrinkage)[0]
    return slow_mahalanobis(training, labels, test, head, shrinkage) - whole


def slow_knn(training, labels, test, head, neighbours=10):
    def unit(rows):
        return double(rows) / np.linalg.norm(double(rows), axis=1, keepdims=True)

    bank = double(unit(training.features).astype(np.float16))
    search = NearestNeighbors(n_neighbors=neighbours, algorithm='brute').fit(bank)
    return search.kneighbors(unit(test.features))[0][:, -1]


def slow_channel_means(training, labels, test, head, shrinkage=0.01):
    total = np.zeros(len(test))
    for layer in LAYERS:
        estimate = EmpiricalCovariance().fit(double(training.means[layer]))
        estimate._set_covariance(shrunk_covariance(estimate.covariance_, shrinkage))
        channels = training.means[layer].shape[1]
        total += estimate.mahalanobis(double(test.means[layer])) / channels
    return total


def slow_vim(training, labels, test, head, subspace=WIDTH // 2):
    weight, bias = double(head.weight), double(head.bias)
    origin = np.linalg.lstsq(weight, -bias, rcond=None)[0]
    deviation = enters(head, training.features) - origin
    residual = np.linalg.svd(deviation)[2][subspace:]
    alpha = double(training.logits).max(axis=1).mean() / np.linalg.norm(
        deviation @ residual.T, axis=1
    ).mean()
    outside = np.linalg.norm((enters(head, test.features) - origin) @ residual.T, axis=1)
    return alpha * outside + slow_free_energy(test.logits)


def slow_she(training, labels, test, head):
    return np.array([
        -(double(feature) @ own(training, labels, label).mean(axis=0))
        for feature, label in zip(test.features, test.predicted, strict=True)
    ])


def slow_msp(training, labels, test, head):
    result = []
    for row in double(test.logits):
        rest = np.delete(row, row.argmax()) - row.max()
        result.append(math.log1p(math.fsum(map(math.exp, rest))))
    return np.array(result)


def slow_max_logit(training, labels, test, head):
    return np.array([-max(map(float, row)) for row in test.logits])


def slow_energy(training, labels, test, head):
    return slow_free_energy(test.logits)


def slow_gen(training, labels, test, head, gamma=0.1, top=100):
    result = []
    for row in np.exp(log_softmax(double(test.logits), axis=1)):
        largest = sorted(row, reverse=True)[:top]
        result.append(sum((p * (row.sum() - p)) ** gamma for p in largest))
    return np.array(result)


def slow_fdbd(training, labels, test, head):
    mean = enters(head, training.features).mean(axis=0)
    weight, result = double(head.weight), []
    for feature, logits, best in zip(
        enters(head, test.features), double(test.logits), test.predicted, strict=True
    ):
        distances = [
            (logits[best] - logits[c]) / np.linalg.norm(weight[best] - weight[c])
            for c in range(len(logits))
            if c != best
        ]
        result.append(-np.mean(distances) / np.linalg.norm(feature - mean))
    return np.array(result)


def slow_react(training, labels, test, head, quantile=0.9):
    clip = np.quantile(enters(head, training.features).ravel(), quantile)
    return slow_free_energy(slow_logits(head, np.clip(enters(head, test.features), None, clip)))


def slow_shaping(head, test, percentile, prune):
    shaped = []
    for feature in enters(head, test.features):
        kept = len(feature) - round(len(feature) * percentile)
        least = sorted(feature, reverse=True)[kept - 1]
        pruned = np.where(feature >= least, feature, 0)
        ratio = feature.sum() / (pruned.sum() if prune else sum(sorted(feature)[-kept:]))
        shaped.append((pruned if prune else feature) * np.exp(ratio))
    return slow_free_energy(slow_logits(head, shaped))


def slow_ash(training, labels, test, head, percentile=0.65):
    return slow_shaping(head, test, percentile, prune=True)


def slow_scale(training, labels, test, head, percentile=0.85):
    return slow_shaping(head, test, percentile, prune=False)


def slow_mc_dropout(training, labels, test, head, measure='entropy'):
    result = []
    for passes in np.exp(log_softmax(double(test.samples), axis=2)):
        total = entropy(passes.mean(axis=0))
        single = np.mean([entropy(p) for p in passes])
        result.append(total if measure == 'entropy' else total - single)
    return np.array(result)


def slow_decoy(training, labels, test, head):
    return log_softmax(np.column_stack([double(test.logits), test.background]), axis=1)[:, -1]


ORACLES = {
    'pattern': slow_pattern,
    'pattern_soft': slow_pattern_soft,
    'gaussian': slow_gaussian,
    'window_kl': slow_window_kl,
    'box': slow_box,
    'mahalanobis': slow_mahalanobis,
    'relative_mahalanobis': slow_relative_mahalanobis,
    'knn': slow_knn,
    'channel_means': slow_channel_means,
    'vim': slow_vim,
    'she': slow_she,
    'msp': slow_msp,
    'max_logit': slow_max_logit,
    'energy': slow_energy,
    'gen': slow_gen,
    'fdbd': slow_fdbd,
    'react': slow_react,
    'ash': slow_ash,
    'scale': slow_scale,
    'mc_dropout': slow_mc_dropout,
    'decoy': slow_decoy,
}
# The bank has half a precision's digits on both sides; near 0 the root magnifies single's.
ATOL = {'knn': 1e-4, 'relative_mahalanobis': 1e-4}
ONE_BOX = {'box': {'clusters': 1}}


@pytest.mark.parametrize('rectified', [False, True])
@pytest.mark.parametrize('name', SCORES)
def test_a_score_equals_its_formula(name, rectified):
    training, labels, head = make_data(0, 300, rectified=rectified)
    test, _, _ = make_data(1, 80, rectified=rectified)
    test.features[40:] *= 1.7  # beyond what training had
    score = fitted(name, training, labels, head, **ONE_BOX.get(name, {}))
    expected = ORACLES[name](training, labels, test, head)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(
        score.score(test), expected, rtol=1e-4, atol=ATOL.get(name, 1e-5)
    )


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('gaussian', {'floor': 0.5}),
        ('window_kl', {'floor': 0.5}),
        ('window_kl', {'window': 4, 'max_age': 9}),
        ('mahalanobis', {'shrinkage': 0.3}),
        ('relative_mahalanobis', {'shrinkage': 0.3}),
        ('channel_means', {'shrinkage': 0.3}),
        ('knn', {'neighbours': 1}),
        ('knn', {'neighbours': 37}),
        ('vim', {'subspace': 2}),
        ('vim', {'subspace': 11}),
        ('gen', {'gamma': 0.5, 'top': 2}),
        ('react', {'quantile': 0.6}),
        ('ash', {'percentile': 0.3}),
        ('scale', {'percentile': 0.5}),
        ('mc_dropout', {'measure': 'mutual_information'}),
    ],
)
def test_options_enter_as_the_formula_says(name, options):
    training, labels, head = make_data(2, 300)
    test, _, _ = make_data(3, 80)
    expected = ORACLES[name](training, labels, test, head, **options)
    usual = ORACLES[name](training, labels, test, head)
    assert not np.allclose(expected, usual, rtol=1e-3, atol=1e-3)
    score = fitted(name, training, labels, head, **options)
    np.testing.assert_allclose(
        score.score(test), expected, rtol=1e-4, atol=ATOL.get(name, 1e-5)
    )


@pytest.mark.parametrize('temperature', [0.5, 3.0])
def test_energy_has_a_temperature(temperature):
    test, labels, head = make_data(4, 50)
    score = fitted('energy', test, labels, head, temperature=temperature)
    np.testing.assert_allclose(
        score.score(test), slow_free_energy(test.logits, temperature), rtol=1e-5
    )


@pytest.mark.parametrize(
    ('name', 'options'), [*((name, {}) for name in WITH_HEAD), ('react', {'quantile': 0.3})]
)
def test_a_relu_before_the_head_equals_features_behind_it(name, options):
    before, labels, rectified = make_data(5, 200, rectified=True)
    plain = Head(rectified.weight, rectified.bias)
    behind = Activations(before.logits, np.maximum(before.features, 0))
    one = fitted(name, before, labels, rectified, **options).score(before)
    two = fitted(name, behind, labels, plain, **options).score(behind)
    np.testing.assert_allclose(one, two, rtol=1e-6)


# Patterns.


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
        for row in own(training, labels, label) > thresholds.astype(np.float32):
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
    expected = slow_pattern(training, labels, test, head, thresholds, monitored)
    assert score.score(test).tolist() == expected.tolist()
    for gamma in range(4):
        score.options = replace(score.options, gamma=gamma)
        assert score.out_of_pattern(test).tolist() == (expected > gamma).tolist()


def test_a_neuron_at_the_ratio_is_not_selected():
    weight = np.array([[1, 0.5, -0.75], [-4, 2, 2.5]], np.float32)
    score = empty('pattern', Head(weight, np.zeros(2, np.float32)), select=0.5)
    assert score.monitored.tolist() == [[True, False, True], [True, False, True]]


@pytest.mark.parametrize('rule', ['zero', 'quantile'])
def test_soft_pattern_equals_naive_bayes(rule):
    training, labels, head = make_data(8, 200, rectified=True)
    test, _, _ = make_data(9, 60, rectified=True)
    thresholds = np.zeros(WIDTH)
    if rule == 'quantile':
        thresholds = np.quantile(training.features, 0.7, axis=0).astype(np.float32)
    correct = training.predicted == labels
    bayes = BernoulliNB(alpha=1.0).fit(training.features[correct] > thresholds, labels[correct])
    joint = bayes.predict_joint_log_proba(test.features > thresholds) - bayes.class_log_prior_
    score = fitted('pattern_soft', training, labels, head, threshold=rule, quantile=0.7)
    np.testing.assert_allclose(
        score.score(test), -joint[np.arange(60), test.predicted], rtol=1e-12
    )


def test_a_soft_pattern_of_a_class_without_images_is_a_toss():
    training, labels, head = make_data(8, 200)
    labels[training.predicted == 2] = 0
    score = fitted('pattern_soft', training, labels, head)
    np.testing.assert_allclose(
        score.score(as_class(training[:9], 2)), WIDTH * math.log(2), rtol=1e-12
    )


# Classes with one image or none.


@pytest.mark.parametrize('name', ['gaussian', 'window_kl'])
@pytest.mark.parametrize('count', [0, 1])
def test_a_class_without_a_variance_has_that_of_all_images(name, count):
    training, labels, head = make_data(18, 200)
    rows = np.flatnonzero((training.predicted == 2) & (labels == 2))
    labels[rows[count:]] = 0
    test = as_class(make_data(19, 30)[0], 2)
    np.testing.assert_allclose(
        fitted(name, training, labels, head).score(test),
        ORACLES[name](training, labels, test, head),
        rtol=1e-4,
    )


@pytest.mark.parametrize('name', ['mahalanobis', 'relative_mahalanobis'])
def test_a_class_without_images_is_none_to_be_near_to(name):
    training, labels, head = make_data(18, 200)
    training, labels = pick(training, labels, labels != 2)
    test = make_data(19, 30)[0]
    # The mean of all images, near which no class need be.
    test.features[0] = training.features.mean(axis=0)
    np.testing.assert_allclose(
        fitted(name, training, labels, head).score(test),
        ORACLES[name](training, labels, test, head),
        rtol=1e-4,
        atol=1e-4,
    )


def test_hopfield_energy_of_a_class_without_images_is_by_the_mean_of_all():
    training, labels, head = make_data(18, 200)
    labels[training.predicted == 2] = 0
    mean = double(training.features[training.predicted == labels]).mean(axis=0)
    test = as_class(make_data(19, 30)[0], 2)
    np.testing.assert_allclose(
        fitted('she', training, labels, head).score(test), -double(test.features) @ mean, rtol=1e-5
    )


# Windows.


def test_a_full_window_has_the_divergence_that_torch_computes():
    training, labels, head = make_data(10, 300)
    stream = as_class(make_data(11, 25)[0], 1)
    mean, variance = slow_gaussians(training, labels)
    theirs = torch.distributions.Normal(
        torch.from_numpy(mean[1]), torch.from_numpy(np.sqrt(variance[1]))
    )
    score = fitted('window_kl', training, labels, head, window=6)
    found = score.score(stream)
    for now in range(5, 25):
        rows = double(stream.features[now - 5 : now + 1])
        least = 0.01 * variance[1]
        spread = np.sqrt(np.maximum(rows.var(axis=0), least))
        ours = torch.distributions.Normal(
            torch.from_numpy(rows.mean(axis=0)), torch.from_numpy(spread)
        )
        expected = torch.distributions.kl_divergence(ours, theirs).sum().item()
        assert found[now] == pytest.approx(expected, rel=1e-4)


def test_a_window_that_is_not_full_is_filled_up_with_training():
    training, labels, head = make_data(10, 300)
    mean, variance = slow_gaussians(training, labels)
    frame = Activations(np.array([[0, 5, 0]], 'f'), mean[1:2].astype(np.float32))
    # The class's mean itself: no shift, and one of W frames without its variance.
    expected = 0.5 * WIDTH * (-math.log(0.9) + 0.9 - 1)
    assert fitted('window_kl', training, labels, head).score_frame(frame) == pytest.approx(
        expected, rel=1e-4
    )


def test_window_frames_one_by_one_equal_a_batch_and_forgetting_starts_afresh():
    training, labels, head = make_data(10, 300)
    stream, _, _ = make_data(11, 70)
    score = fitted('window_kl', training, labels, head, window=5, max_age=12)
    batch = score.score(stream)
    frames = [stream[i : i + 1] for i in range(70)]
    assert [score.score_frame(frame) for frame in frames] == batch.tolist()
    assert [score.score_frame(frame) for frame in frames] != batch.tolist()
    score.forget()
    assert [score.score_frame(frame) for frame in frames] == batch.tolist()
    np.testing.assert_array_equal(score.score(stream), batch)  # leaves the stream alone


@pytest.mark.parametrize(('since', 'remembered'), [(1, True), (3, True), (4, False)])
def test_the_window_reaches_back_over_max_age_frames(since, remembered):
    training, labels, head = make_data(10, 300)
    test, _, _ = make_data(11, 10)
    mine, other = as_class(test, 0), as_class(test, 1)
    score = fitted('window_kl', training, labels, head, window=2, max_age=4)
    stream = Activations.concatenate([mine[:1], other[: since - 1], mine[1:2]])
    expected = score.score(mine[:2])[1] if remembered else score.score(mine[1:2])[0]
    assert score.score(stream)[-1] == expected
    assert score.score(mine[:2])[1] != score.score(mine[1:2])[0]


# Boxes.


def test_a_training_image_lies_in_a_box_and_the_way_out_is_measured():
    training, labels, head = make_data(12, 200)
    score = fitted('box', training, labels, head, clusters=1)
    correct = training[training.predicted == labels]
    assert not score.score(correct).any()
    rows = own(training, labels, 0)
    scale = double(correct.features).std(axis=0)
    inside = (rows.min(axis=0) + rows.max(axis=0)) / 2
    outside = inside.copy()
    outside[3] = rows[:, 3].max() + 3 * scale[3]
    outside[5] = rows[:, 5].min() - 4 * scale[5]
    frames = np.stack([inside, outside]).astype(np.float32)
    frames = as_class(Activations(frames, frames), 0)
    np.testing.assert_allclose(score.score(frames), [0.0, 5.0], rtol=1e-5)


def test_each_cluster_of_a_class_has_a_box():
    rng = np.random.default_rng(13)
    where = rng.normal(size=(CLASSES, 3, WIDTH)) * 40
    features, logits, parts = [], [], []
    for label in range(CLASSES):
        parts.append([])
        for centre in where[label]:
            rows = (centre + rng.normal(size=(20, WIDTH))).astype(np.float32)
            parts[label].append((double(rows).min(axis=0), double(rows).max(axis=0)))
            features.append(rows)
            logits.append(as_class(Activations(rows, rows), label).logits)
    training = Activations(np.concatenate(logits), np.concatenate(features))
    score = fitted('box', training, training.predicted, make_head(), clusters=3)
    middle = where.mean(axis=1).repeat(20, axis=0) + rng.normal(size=(20 * CLASSES, WIDTH)) * 20
    test = Activations(
        np.eye(CLASSES, dtype=np.float32).repeat(20, axis=0), middle.astype(np.float32)
    )
    expected = slow_boxes(parts, double(training.features).std(axis=0), test)
    assert expected.min() > 0
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4)
    gap = Activations(test.logits[::20], where.mean(axis=1).astype(np.float32))
    # One box around all of a class would hold its middle.
    assert (score.score(gap) > 0).all()
    one = fitted('box', training, training.predicted, make_head(), clusters=1)
    assert not one.score(gap).any()


def test_a_class_without_images_has_a_box_around_all():
    training, labels, head = make_data(12, 200)
    labels[training.predicted == 2] = 0
    correct = training[training.predicted == labels]
    rows = double(correct.features)
    test = as_class(make_data(14, 30)[0], 2)
    test.features[15:] *= 3
    expected = slow_boxes(
        {2: [(rows.min(axis=0), rows.max(axis=0))]}, rows.std(axis=0), test
    )
    score = fitted('box', training, labels, head)
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4, atol=1e-6)
    assert expected.any()


# Neighbours, logits, features.


def test_a_bounded_bank_holds_training_images():
    training, labels, head = make_data(15, 200)
    test, _, _ = make_data(16, 50)
    whole = fitted('knn', training, labels, head, bank=0, neighbours=1)
    part = fitted('knn', training, labels, head, bank=40, neighbours=1)
    rows = {row.tobytes() for row in whole.bank}
    assert whole.bank.shape == (200, WIDTH) and part.bank.shape == (40, WIDTH)
    assert all(row.tobytes() in rows for row in part.bank)
    assert (part.score(test) >= whole.score(test) - 1e-6).all()
    np.testing.assert_allclose(
        whole.score(test), slow_knn(training, labels, test, head, 1), rtol=1e-4, atol=1e-4
    )


def test_softmax_probability_resolves_what_rounds_to_one():
    logits = np.array([[20, 0, 0], [40, 0, 0], [45, 0, 0], [90, 0, 0]], np.float32)
    test = Activations(logits, np.zeros((4, WIDTH), np.float32))
    score = empty('msp', make_head()).score(test)
    np.testing.assert_allclose(score, slow_msp(None, None, test, None), rtol=1e-9)


def test_generalised_entropy_resolves_what_rounds_to_one():
    logits = np.array([[20, 0, 0], [40, 0, 0], [45, 0, 0], [90, 0, 0]], np.float32)
    test = Activations(logits, np.zeros((4, WIDTH), np.float32))
    small = np.exp(-double(logits[:, 0]))
    # p (1 - p) of the first class and of the other two.
    first = (2 * small / (1 + 2 * small) ** 2) ** 0.1
    other = (small * (1 + small) / (1 + 2 * small) ** 2) ** 0.1
    np.testing.assert_allclose(
        empty('gen', make_head()).score(test), first + 2 * other, rtol=1e-9
    )


def test_log_probability_of_the_background_does_not_overflow():
    logits = np.array([[500, 0, 0], [-500, 0, 0], [0, 0, 0]], np.float32)
    background = np.array([0, 500, -500], np.float32)
    test = Activations(logits, np.zeros((3, WIDTH), np.float32), background=background)
    np.testing.assert_allclose(
        empty('decoy', make_head()).score(test), slow_decoy(None, None, test, None), atol=1e-12
    )


def test_passes_that_agree_have_no_mutual_information():
    test, labels, head = make_data(17, 20)
    same = Activations(
        test.logits, test.features, samples=np.repeat(test.logits[:, None], PASSES, axis=1)
    )
    score = fitted('mc_dropout', same, labels, head, measure='mutual_information')
    np.testing.assert_allclose(score.score(same), 0, atol=1e-6)
    total = fitted('mc_dropout', same, labels, head).score(same)
    np.testing.assert_allclose(
        total, entropy(np.exp(log_softmax(double(test.logits), axis=1)), axis=1), atol=1e-6
    )
    split = np.zeros((1, 2, CLASSES), np.float32)
    split[0, [0, 1], [0, 1]] = 50
    disagree = Activations(test.logits[:1], test.features[:1], samples=split)
    assert score.score(disagree) == pytest.approx(math.log(2))


def test_equally_large_features_are_all_kept_and_all_summed():
    head = make_head()
    features = np.zeros((2, WIDTH), np.float32)
    features[0] = 0.1
    features[1, :8] = 0.2
    test = activate(head, features, np.random.default_rng(0))
    score = fitted('ash', test, test.predicted, head)
    # Nothing but zeros is pruned, so the sum stays as it was.
    expected = slow_free_energy(slow_logits(head, double(features) * math.e))
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-5)


# Other people's implementations.


@pytest.fixture
def other():
    return pytest.importorskip('pytorch_ood.detector')


def case(seed=20, rectified=False):
    training, labels, head = make_data(seed, 300, rectified=rectified)
    test, _, _ = make_data(seed + 1, 60, rectified=rectified)
    linear = torch.nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
    return SimpleNamespace(
        training=training,
        labels=labels,
        head=head,
        test=test,
        linear=linear,
        fit=(torch.from_numpy(training.features), torch.from_numpy(labels)),
        features=torch.from_numpy(test.features),
        logits=torch.from_numpy(test.logits),
    )


def ours(name, c, **options):
    return fitted(name, c.training, c.labels, c.head, **options).score(c.test)


def test_distances_equal_pytorch_oods(other):
    c = case()
    # It divides neither the scatter by the number of images nor, for the plain distance, by 2.
    plain = other.Mahalanobis(None).fit_features(*c.fit).predict_features(c.features)
    np.testing.assert_allclose(
        ours('mahalanobis', c, shrinkage=1e-9) / 300 / 2, plain.numpy(), rtol=1e-3
    )
    relative = other.RMD(None).fit_features(*c.fit).predict_features(c.features)
    np.testing.assert_allclose(
        ours('relative_mahalanobis', c, shrinkage=1e-9) / 300, relative.numpy(), rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize('neighbours', [1, 10])
def test_neighbours_equal_pytorch_oods(other, neighbours):
    c = case()
    detector = other.KNN(None, k=neighbours, algorithm='brute')
    detector.knn.set_params(n_jobs=1)
    expected = detector.fit_features(*c.fit).predict_features(c.features).numpy()
    # Ours rounds the bank to half precision: 2^-11 of each of the features of a unit vector.
    np.testing.assert_allclose(
        ours('knn', c, bank=0, neighbours=neighbours), expected, rtol=0, atol=2.0**-11
    )


@pytest.mark.parametrize('subspace', [3, 6])
def test_virtual_logits_equal_pytorch_oods(other, subspace):
    c = case()
    detector = other.ViM(None, subspace, c.linear.weight, c.linear.bias).fit_features(*c.fit)
    np.testing.assert_allclose(
        ours('vim', c, subspace=subspace), detector.predict_features(c.features).numpy(),
        rtol=1e-3, atol=1e-3,
    )


def test_hopfield_energy_and_boundary_distance_equal_pytorch_oods(other):
    c = case()
    she = other.SHE(None, c.linear).fit_features(*c.fit).predict_features(c.features)
    np.testing.assert_allclose(ours('she', c), she.numpy(), rtol=1e-4)
    fdbd = other.fDBD(None, c.linear).fit_features(c.fit[0]).predict_features(c.features)
    np.testing.assert_allclose(ours('fdbd', c), fdbd.numpy(), rtol=1e-3)


def test_scores_of_logits_equal_pytorch_oods(other):
    c = case()
    for temperature in (1.0, 2.0):
        np.testing.assert_allclose(
            ours('energy', c, temperature=temperature),
            other.EnergyBased.score(c.logits, temperature).numpy(),
            rtol=1e-5,
        )
    np.testing.assert_allclose(ours('max_logit', c), other.MaxLogit.score(c.logits).numpy())
    # Its probabilities, our logarithms.
    np.testing.assert_allclose(
        -np.exp(-ours('msp', c)), other.MaxSoftmax.score(c.logits).numpy(), rtol=1e-5
    )


@pytest.mark.parametrize(('gamma', 'top'), [(0.1, 3), (0.5, 2)])
def test_generalised_entropy_equals_pytorch_oods(other, gamma, top):
    rng = np.random.default_rng(30)
    # Small logits: it cuts probabilities off at 1e-7.
    logits = rng.normal(size=(50, CLASSES)).astype(np.float32)
    test = Activations(logits, np.zeros((50, WIDTH), np.float32))
    expected = top * other.GEN.score(torch.from_numpy(logits), gamma=gamma, M=top)  # its mean
    score = empty('gen', make_head(), gamma=gamma, top=top)
    np.testing.assert_allclose(score.score(test), expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize('rectified', [False, True])
def test_clipping_and_shaping_equal_pytorch_oods(other, rectified):
    c = case(rectified=rectified)

    def entering(features):
        return torch.relu(features) if rectified else features

    def head(maps):
        return c.linear(maps.flatten(1))

    maps, seen = (entering(f)[:, :, None, None] for f in (c.features, c.fit[0]))
    react = other.ReAct(None, head, percentile=0.9).fit_feature_maps(seen, c.fit[1])
    np.testing.assert_allclose(ours('react', c), react.predict_feature_maps(maps), rtol=1e-4)
    ash = other.ASH(None, head, variant='ash-s', percentile=0.65)
    np.testing.assert_allclose(ours('ash', c), ash.predict_feature_maps(maps), rtol=1e-4)
    scale = other.SCALE(None, head, percentile=0.85)
    np.testing.assert_allclose(ours('scale', c), scale.predict_feature_maps(maps), rtol=1e-4)


# Training that says little, and frames that it says nothing of.


def pick(training, labels, rows):
    return training[rows], labels[rows]


def replace_features(training, features):
    return Activations(
        training.logits, features.astype(np.float32), training.means,
        samples=training.samples, background=training.background,
    )


def degenerate(what):
    """Return training images, labels and head of one kind of poor training."""
    classes, width = 4, 20
    if what == 'a network of one class':
        return make_data(0, 40, classes=1, width=width)
    if what == 'one neuron':
        return make_data(0, 60, classes=classes, width=1)
    if what == 'more neurons than images':
        return make_data(0, 12, classes=classes, width=70)
    training, labels, head = make_data(0, 120, classes=classes, width=width)
    predicted = training.predicted
    right = np.flatnonzero(labels == predicted)
    first = np.array([right[predicted[right] == c][0] for c in range(classes)])
    if what == 'one class':
        return *pick(training, labels, right[predicted[right] == 1]), head
    if what == 'one image':
        return *pick(training, labels, first[:1]), head
    if what == 'two images of two classes':
        return *pick(training, labels, first[:2]), head
    if what == 'one image many times':
        return *pick(training, labels, first[:1].repeat(20)), head
    if what == 'one image of each class many times':
        return *pick(training, labels, first.repeat(20)), head
    if what == 'one large image of each class many times':
        rows = first.repeat(20)
        large = replace_features(training[rows], training.features[rows] * 1000)
        return large, labels[rows], head
    if what == 'every image twice':
        return *pick(training, labels, np.arange(120).repeat(2)), head
    if what == 'features of zero':
        return replace_features(training, np.zeros((120, width))), labels, head
    if what == 'constant features':
        return replace_features(training, np.full((120, width), 1234.567)), labels, head
    if what == 'dead neurons':
        return replace_features(training, training.features * (np.arange(width) < 3)), labels, head
    if what == 'a class never seen and never predicted':
        return *pick(training, labels, (labels != 2) & (predicted != 2)), head
    if what == 'a class never predicted':
        return *pick(training, labels, predicted != 2), head
    if what == 'a class never seen':
        return *pick(training, labels, labels != 2), head
    assert what == 'no image right'
    return training, (predicted + 1) % classes, head


FEW = {'one image', 'one image many times'}
CONSTANT = FEW | {'features of zero', 'constant features'}
MAY_REFUSE = {  # with the reason
    'pattern': (CONSTANT, 'no monitored neuron ever changes'),
    'pattern_soft': (CONSTANT, 'no monitored neuron ever changes'),
    'fdbd': ({'a network of one class'}, 'no decision boundary'),
}
POOR = [
    'a network of one class', 'one neuron', 'more neurons than images', 'one class', 'one image',
    'two images of two classes', 'one image many times', 'one image of each class many times',
    'one large image of each class many times', 'every image twice', 'features of zero',
    'constant features', 'dead neurons', 'a class never seen and never predicted',
    'a class never predicted', 'a class never seen',
]


def any_frames(training, head):
    """Return frames near to and far from training, each predicted as each class once."""
    classes, width = head.weight.shape
    rng = np.random.default_rng(1)
    features = np.concatenate([
        training.features[:5],
        np.maximum(rng.normal(size=(5, width)), 0),
        np.zeros((1, width)),
        np.full((1, width), 3.0),
        np.maximum(rng.normal(size=(3, width)), 0) * 1e4,
    ]).astype(np.float32)
    scores = head.logits(features)
    return Activations.concatenate([
        activate(head, features, rng, logits=np.roll(scores, shift, axis=1))
        for shift in range(classes)
    ])


@pytest.mark.parametrize('what', POOR)
@pytest.mark.parametrize('name', SCORES)
def test_poor_training_gives_numbers_or_a_refusal_with_a_reason(name, what):
    training, labels, head = degenerate(what)
    try:
        score = fitted(name, training, labels, head)
    except NavMonitorError as error:
        cases, reason = MAY_REFUSE.get(name, (set(), ''))
        assert what in cases, error
        assert str(error).startswith(f'{name}: ') and reason in str(error)
        return
    assert name not in ('pattern', 'pattern_soft') or what not in CONSTANT
    test = any_frames(training, head)
    result = score.score(test)
    assert result.shape == (len(test),) and result.dtype == np.float64
    assert np.isfinite(result).all()
    assert all(np.isfinite(tensor).all() for tensor in score.tensors().values())
    if not score.windowed:
        frames = [score.score_frame(test[i : i + 1]) for i in range(len(test))]
        # A distance of 0 is a difference of large numbers, and a root magnifies its rounding.
        rounding = 2e-3 + 1e-12 * np.abs(result).max()
        np.testing.assert_allclose(frames, result, rtol=1e-3, atol=rounding)
    classes, width = head.weight.shape
    other = make_score(name, score.settings, classes=classes, width=width, head=head)
    other.restore(score.tensors())
    np.testing.assert_array_equal(other.score(test), result)


@pytest.mark.parametrize('name', SCORES)
def test_training_without_a_correct_image_gives_numbers_or_is_refused_by_name(name):
    training, labels, head = degenerate('no image right')
    try:
        score = fitted(name, training, labels, head)
    except NavMonitorError as error:
        assert str(error).startswith(f'{name}: no training image was classified correctly')
        return
    assert name not in ('pattern', 'gaussian', 'window_kl', 'box')
    assert np.isfinite(score.score(any_frames(training, head))).all()


@pytest.mark.parametrize(
    ('what', 'subspace'), [('more neurons than images', 15), ('dead neurons', 5)]
)
def test_virtual_logits_do_not_take_rounding_for_a_residual(what, subspace):
    training, labels, head = degenerate(what)
    score = fitted('vim', training, labels, head, subspace=subspace)
    # All training images lie in the principal subspace.
    assert np.linalg.matrix_rank(training.features - score.origin) <= subspace
    assert score.alpha[0] == 1


@pytest.mark.parametrize('name', ['gaussian', 'window_kl'])
def test_a_tiny_floor_still_holds_where_nothing_varies(name):
    training, labels, head = degenerate('constant features')
    score = fitted(name, training, labels, head, floor=1e-9)
    assert np.isfinite(score.score(any_frames(training, head))).all()


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('pattern', {'gamma': -1}),
        ('pattern_soft', {'quantile': 1}),
        ('gaussian', {'floor': 0}),
        ('window_kl', {'window': 1}),
        ('window_kl', {'floor': 0}),
        ('box', {'clusters': 0}),
        ('mahalanobis', {'shrinkage': 0}),
        ('relative_mahalanobis', {'shrinkage': 1}),
        ('knn', {'neighbours': 0}),
        ('channel_means', {'shrinkage': 0}),
        ('vim', {'subspace': WIDTH}),
        ('energy', {'temperature': 0}),
        ('gen', {'gamma': 0}),
        ('react', {'quantile': 0}),
        ('ash', {'percentile': 1}),
        ('scale', {'percentile': -0.1}),
        ('mc_dropout', {'count': 1}),
    ],
)
def test_an_option_out_of_range_is_refused_by_the_scores_name(name, options):
    with pytest.raises(NavMonitorError, match=f'^{name}: '):
        empty(name, make_head(), **options)


@pytest.mark.parametrize('name', [*WITH_HEAD, 'mc_dropout', 'decoy', 'channel_means'])
def test_what_the_network_cannot_give_is_refused_by_the_scores_name(name):
    training, labels, head = make_data(0, 40)
    bare = Activations(training.logits, training.features)
    score = make_score(name, {}, classes=CLASSES, width=WIDTH, head=None)
    with pytest.raises(NotApplicableError, match=f'^{name}: .*leave this score out'):
        score.prepare(bare, labels)


@pytest.mark.parametrize('name', ['ash', 'scale'])
def test_shaping_of_features_below_zero_is_refused(name):
    training, labels, head = make_data(0, 40, rectified=True)
    with pytest.raises(NotApplicableError, match=f'^{name}: .*non-negative'):
        fitted(name, training, labels, Head(head.weight, head.bias))
