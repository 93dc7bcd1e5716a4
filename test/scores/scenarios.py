"""Random linear classifiers and images, for properties that hold for every score."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from training_data import NEEDED

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.registry import SCORES, make_score

CASES = [(name, NEEDED.get(name, {})) for name in SCORES] + [
    ('pattern', {'max_patterns': 3}),
    ('pattern', {'threshold': 'quantile', 'quantile': 0.3, 'select': 0.4}),
    ('pattern_soft', {'threshold': 'quantile', 'quantile': 0.7}),
    ('knn', {'bank': 4, 'neighbours': 2}),
    ('box', {'clusters': 1}),
    ('vim', {'subspace': 1}),
    ('gen', {'gamma': 0.5, 'top': 2}),
    ('mc_dropout', {'measure': 'mutual_information'}),
    ('window_kl', {'window': 3, 'max_age': 4, 'floor': 0.1}),
]
every_score = pytest.mark.parametrize(
    ('name', 'options'),
    CASES,
    ids=[name + ''.join(f'-{key}' for key in o if name not in NEEDED) for name, o in CASES],
)
# Fitted by sums of floating-point numbers, whose order affects the last digits. All other scores
# store counts, patterns, extremes, images or nothing, and must be equal bit for bit.
SUMS = {
    'gaussian', 'window_kl', 'mahalanobis', 'relative_mahalanobis', 'channel_means',
    'layer_mahalanobis', 'vim', 'she', 'fdbd', 'box',
}
EXACT_PARTS = {'box': {'low', 'high', 'lonely'}}
# The order of the sums in a matrix product depends on the number of rows.
PRODUCTS = {
    'channel_means', 'layer_mahalanobis', 'knn', 'mahalanobis', 'relative_mahalanobis', 'react',
    'ash', 'scale', 'vim',
}
quick = settings(max_examples=20, deadline=None)


@dataclass(frozen=True)
class Scenario:
    """Linear classifier, training images, some of them misclassified, and test images."""

    recipe: tuple  # arguments of ``make_scenario``
    head: Head = field(repr=False)
    training: Activations = field(repr=False)
    labels: np.ndarray = field(repr=False)
    test: Activations = field(repr=False)

    @property
    def sample(self) -> int:
        """Number of training images, from the first one, that are passed to ``prepare``."""
        return max(4, len(self.training) // 2)

    @property
    def classes(self) -> int:
        return len(self.head.weight)

    @property
    def width(self) -> int:
        return self.head.weight.shape[1]


def make_scenario(seed, classes, width, images, tests, kind, wrong, repeated):
    rng = np.random.default_rng(seed)
    head = Head(
        rng.normal(size=(classes, width)).astype(np.float32),
        rng.normal(size=classes).astype(np.float32),
        rectified=kind == 'rectified',
    )

    def draw(count):
        if kind == 'pooled':  # as after global average pooling of ReLU maps: all positive
            return rng.gamma(2.0, size=(count, width)).astype(np.float32)
        values = rng.normal(size=(count, width)).astype(np.float32)
        return np.maximum(values, 0) if kind == 'relu' else values

    def activations(features):
        count = len(features)
        logits = head.logits(head.entering(features))
        made = Activations(
            logits,
            features,
            {
                'stem': rng.gamma(2.0, size=(count, 3)).astype(np.float32),
                'body': (features[:, :3] + rng.normal(size=(count, 3))).astype(np.float32),
            },
            samples=(logits[:, None] + rng.normal(size=(count, 20, classes))).astype(np.float32),
            background=rng.normal(size=count).astype(np.float32),
        )
        return frozen(made)

    features = draw(images)
    if repeated:
        features = features[rng.integers(0, max(2, images // 4), images)]
        features[2:7] = draw(5)
    # In every scenario, some neuron varies and some class has two different images.
    features[0] = features.min(axis=0) - (kind in ('signed', 'rectified'))
    features[1] = features.max(axis=0) + 1
    training = activations(features)
    mistaken = rng.random(images) < wrong
    mistaken[:2] = False
    labels = (training.predicted + mistaken) % classes
    labels.setflags(write=False)
    recipe = (seed, classes, width, images, tests, kind, wrong, repeated)
    return Scenario(recipe, head, training, labels, activations(draw(tests)))


def frozen(activations):
    """Make the arrays read-only, because scores must not modify their arguments."""
    for array in (activations.logits, activations.features, *activations.means.values(),
                  activations.samples, activations.background):
        array.setflags(write=False)
    return activations


@st.composite
def scenarios(draw, name):
    # ViM's subspace is arbitrary if there are fewer images than dimensions.
    images = draw(st.integers(8, 60))
    widest = max(3, images // 3) if name == 'vim' else 70
    kinds = ['relu', 'pooled', 'rectified']
    return make_scenario(
        seed=draw(st.integers(0, 2**32 - 1)),
        classes=draw(st.integers(2 if name == 'fdbd' else 1, 4)),
        width=draw(st.integers(3, widest)),
        images=images,
        tests=draw(st.integers(1, 12)),
        # ASH and SCALE are defined only for non-negative features.
        kind=draw(st.sampled_from(kinds if name in ('ash', 'scale') else [*kinds, 'signed'])),
        wrong=draw(st.sampled_from([0.0, 0.3, 1.0])),
        repeated=name != 'vim' and draw(st.booleans()),
    )


def prepared(name, options, scenario, order=None):
    score = make_score(
        name, options, classes=scenario.classes, width=scenario.width, head=scenario.head
    )
    rows = np.arange(scenario.sample) if order is None else order[order < scenario.sample]
    score.prepare(scenario.training[rows], scenario.labels[rows])
    return score


def fitted(name, options, scenario):
    score = prepared(name, options, scenario)
    score.update(scenario.training, scenario.labels)
    score.finish()
    return score


def streamed(start, scenario, rows):
    """Return a copy of a prepared score, updated with the given training images."""
    score = copy.deepcopy(start)
    score.update(scenario.training[rows], scenario.labels[rows])
    return score


def merged(start, *others):
    """Return a merged copy."""
    score = copy.deepcopy(start)
    for other in others:
        score.merge(other)
    return score


def finished(score):
    score = copy.deepcopy(score)
    score.finish()
    return score


def bits_of(score):
    return {
        key: (a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes())
        for key, a in score.tensors().items()
    }


def assert_equal_fit(score, other, test, *, exact):
    """Check tensors and scores, bit for bit or up to the rounding of sums."""
    ours, theirs = score.tensors(), other.tensors()
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[key].dtype, theirs[key].shape)
        if exact or array.dtype.kind in 'iu' or key in EXACT_PARTS.get(score.name, ()):
            np.testing.assert_array_equal(array, theirs[key], err_msg=key)
        elif key == 'residual':  # compares the spanned spaces instead of the vectors
            np.testing.assert_allclose(
                array @ array.T, theirs[key] @ theirs[key].T, atol=1e-6, err_msg=key
            )
        elif key == 'offset':  # in these spaces, whose vectors may have either sign
            np.testing.assert_allclose(
                ours['residual'] @ array, theirs['residual'] @ theirs[key], rtol=1e-6,
                atol=1e-6 * (1 + np.abs(array).max(initial=0)), err_msg=key,
            )
        else:
            largest = np.abs(array).max(initial=0)
            if key == 'means':  # differences from the centre, magnified by the whitening
                largest += np.abs(ours['whitening']).max() * np.abs(ours['centre']).max()
            if key.startswith('class_means/'):  # likewise, of channels whose deviation is 1
                largest += np.abs(ours[key.replace('class_means', 'whitening')]).max()
            np.testing.assert_allclose(
                array, theirs[key], rtol=1e-6, atol=1e-6 * largest, err_msg=key
            )
    if exact:
        np.testing.assert_array_equal(score.score(test), other.score(test))
    else:
        assert_close(score, test, score.score(test), other.score(test))


def assert_close(score, test, ours, theirs):
    """Check scores up to rounding in single precision."""
    assert np.shape(ours) == np.shape(theirs)
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if score.name == 'knn':  # the square root amplifies the rounding of small differences
        ours, theirs = ours**2, theirs**2
    size = max(1.0, np.abs(theirs).max(initial=0))
    if score.name == 'relative_mahalanobis':  # the difference of two large numbers
        whole = (test.features - score.centre) @ score.background.T
        size += np.square(whole).sum(axis=1).max(initial=0)
    if score.name == 'vim':  # a short projection of a long vector
        deviation = score.head.entering(test.features) - score.centre
        length = np.linalg.norm(deviation, axis=1).max(initial=0) + np.linalg.norm(score.offset)
        size += score.alpha[0] * length
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * size)
