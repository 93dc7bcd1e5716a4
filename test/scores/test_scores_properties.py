"""What holds for every score, whatever the network, the images and the way they come in."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import pytest
import safetensors.numpy
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores import bits, knn, pattern, reservoir
from nav_monitor_ros.scores.base import NotApplicableError
from nav_monitor_ros.scores.registry import SCORES, make_score

NEEDED = {'channel_means': {'layers': ['stem', 'body']}}  # options that a score cannot do without
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
# Fitted by adding floating-point numbers up, so that their order shows in the last digits. All
# other scores keep counts, patterns, extremes, images or nothing, and are equal bit for bit.
SUMS = {
    'gaussian', 'window_kl', 'mahalanobis', 'relative_mahalanobis', 'channel_means', 'vim', 'she',
    'fdbd', 'box',
}
EXACT_PARTS = {'box': {'low', 'high', 'lonely'}}
# A matrix product adds in another order for one row than for many.
PRODUCTS = {
    'channel_means', 'knn', 'mahalanobis', 'relative_mahalanobis', 'react', 'ash', 'scale', 'vim',
}
quick = settings(max_examples=20, deadline=None)


@dataclass(frozen=True)
class World:
    """A linear classifier, training images of which some are misclassified, and test images."""

    recipe: tuple  # what ``make_world`` took
    head: Head = field(repr=False)
    training: Activations = field(repr=False)
    labels: np.ndarray = field(repr=False)
    test: Activations = field(repr=False)

    @property
    def sample(self) -> int:
        """The first so many training images are those that ``prepare`` sees."""
        return max(4, len(self.training) // 2)

    @property
    def classes(self) -> int:
        return len(self.head.weight)

    @property
    def width(self) -> int:
        return self.head.weight.shape[1]


def make_world(seed, classes, width, images, tests, kind, wrong, repeated):
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
    # In every world some neuron changes, and some class has two images that differ.
    features[0] = features.min(axis=0) - (kind in ('signed', 'rectified'))
    features[1] = features.max(axis=0) + 1
    training = activations(features)
    mistaken = rng.random(images) < wrong
    mistaken[:2] = False
    labels = (training.predicted + mistaken) % classes
    labels.setflags(write=False)
    recipe = (seed, classes, width, images, tests, kind, wrong, repeated)
    return World(recipe, head, training, labels, activations(draw(tests)))


def frozen(activations):
    """Return the same; no score may write into what it is given."""
    for array in (activations.logits, activations.features, *activations.means.values(),
                  activations.samples, activations.background):
        array.setflags(write=False)
    return activations


@st.composite
def worlds(draw, name):
    # ViM's subspace is arbitrary where there are fewer images than it has dimensions.
    images = draw(st.integers(8, 60))
    widest = max(3, images // 3) if name == 'vim' else 70
    kinds = ['relu', 'pooled', 'rectified']
    return make_world(
        seed=draw(st.integers(0, 2**32 - 1)),
        classes=draw(st.integers(2 if name == 'fdbd' else 1, 4)),
        width=draw(st.integers(3, widest)),
        images=images,
        tests=draw(st.integers(1, 12)),
        # Defined for non-negative features only.
        kind=draw(st.sampled_from(kinds if name in ('ash', 'scale') else [*kinds, 'signed'])),
        wrong=draw(st.sampled_from([0.0, 0.3, 1.0])),
        repeated=name != 'vim' and draw(st.booleans()),
    )


def prepared(name, options, world, order=None):
    score = make_score(
        name, options, classes=world.classes, width=world.width, head=world.head
    )
    rows = np.arange(world.sample) if order is None else order[order < world.sample]
    score.prepare(world.training[rows], world.labels[rows])
    return score


def fitted(name, options, world):
    score = prepared(name, options, world)
    score.update(world.training, world.labels)
    score.finish()
    return score


def streamed(start, world, rows):
    """Return a copy of a prepared score that has seen these training images."""
    score = copy.deepcopy(start)
    score.update(world.training[rows], world.labels[rows])
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
    """Check tensors and scores: bit for bit, or up to the rounding of sums."""
    ours, theirs = score.tensors(), other.tensors()
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[key].dtype, theirs[key].shape)
        if exact or array.dtype.kind in 'iu' or key in EXACT_PARTS.get(score.name, ()):
            np.testing.assert_array_equal(array, theirs[key], err_msg=key)
        elif key == 'residual':  # the space counts, not which vectors span it
            np.testing.assert_allclose(
                array @ array.T, theirs[key] @ theirs[key].T, atol=1e-6, err_msg=key
            )
        else:
            largest = np.abs(array).max(initial=0)
            if key == 'means':  # differences from the centre, magnified by the whitening
                largest += np.abs(ours['whitening']).max() * np.abs(ours['centre']).max()
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
    if score.name == 'knn':  # the root of what is left of a difference
        ours, theirs = ours**2, theirs**2
    size = max(1.0, np.abs(theirs).max(initial=0))
    if score.name == 'relative_mahalanobis':  # the difference of two large numbers
        whole = (test.features - score.centre) @ score.background.T
        size += np.square(whole).sum(axis=1).max(initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * size)


# Building a score.


@every_score
@given(data=st.data())
@quick
def test_parts_in_any_number_merge_into_what_one_stream_gives(name, options, data):
    world = data.draw(worlds(name))
    part_of = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
        0, data.draw(st.integers(1, 4)), len(world.training)
    )
    start = prepared(name, options, world)
    whole = streamed(start, world, slice(None))
    parts = [streamed(start, world, part_of == k) for k in range(part_of.max() + 1)]
    assert_equal_fit(
        finished(merged(*parts)), finished(whole), world.test, exact=name not in SUMS
    )


@every_score
@given(data=st.data())
@quick
def test_merging_is_associative_and_commutative_and_leaves_the_other_as_it_was(
    name, options, data
):
    world = data.draw(worlds(name))
    n = len(world.training)
    cuts = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    start = prepared(name, options, world)
    rows = [slice(0, cuts[0]), slice(cuts[0], cuts[1]), slice(cuts[1], n)]
    a, b, c = (streamed(start, world, part) for part in rows)
    left = finished(merged(merged(a, b), c))
    right = finished(merged(a, merged(b, c)))
    assert_equal_fit(left, right, world.test, exact=name not in SUMS)
    # The sum of two numbers is the same either way round, to the last bit.
    turned = finished(merged(c, merged(b, a)))
    assert_equal_fit(turned, left, world.test, exact=True)

    taker = start
    for part in (a, b, c):
        taker.merge(part)
        taker.update(world.training, world.labels)
    again = finished(merged(merged(a, b), c))
    assert bits_of(again) == bits_of(left)


@every_score
@given(data=st.data())
@quick
def test_any_batches_give_what_one_batch_gives(name, options, data):
    world = data.draw(worlds(name))
    n = len(world.training)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=12)))  # empty batches too
    start = prepared(name, options, world)
    whole = finished(streamed(start, world, slice(None)))
    score = start
    # Small limits, so that what is seen is condensed on the way.
    with patch.object(reservoir, '_MIN_ROWS', data.draw(st.sampled_from([1, 8, 1 << 16]))):
        for first, last in zip([0, *cuts], [*cuts, n], strict=True):
            batch = copy.deepcopy(world.training[first:last])
            labels = world.labels[first:last].copy()
            score.update(batch, labels)
            for array in (batch.logits, batch.features, *batch.means.values()):
                array.setflags(write=True)
                array[:] = 7  # a caller may use its buffers again
            labels[:] = 0
    score.finish()
    assert_equal_fit(score, whole, world.test, exact=name not in SUMS)


@every_score
@given(data=st.data())
@quick
def test_the_order_of_the_training_images_does_not_matter(name, options, data):
    world = data.draw(worlds(name))
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(world.training))
    score = prepared(name, options, world, order)
    score.update(world.training[order], world.labels[order])
    score.finish()
    assert_equal_fit(
        score, fitted(name, options, world), world.test, exact=name not in SUMS
    )


@every_score
@given(data=st.data())
@quick
def test_a_stream_that_was_interrupted_goes_on_bit_for_bit(name, options, data):
    world = data.draw(worlds(name))
    n = len(world.training)
    cut = data.draw(st.integers(0, n))
    start = prepared(name, options, world)
    whole = finished(streamed(streamed(start, world, slice(0, cut)), world, slice(cut, n)))
    half = streamed(start, world, slice(0, cut))
    kept = [
        safetensors.numpy.load(safetensors.numpy.save(tensors))
        for tensors in (half.sample_state(), half.stream_state())
    ]
    other = make_score(
        name, half.settings, classes=world.classes, width=world.width, head=world.head
    )
    other.resume(*kept)
    assert {k: v.tobytes() for k, v in other.stream_state().items()} == {
        k: v.tobytes() for k, v in half.stream_state().items()
    }
    resumed = finished(streamed(other, world, slice(cut, n)))
    assert bits_of(resumed) == bits_of(whole)
    np.testing.assert_array_equal(resumed.score(world.test), whole.score(world.test))


@every_score
@given(data=st.data())
@quick
def test_a_part_built_elsewhere_from_what_prepare_left_merges_like_one_built_here(
    name, options, data
):
    world = data.draw(worlds(name))
    n = len(world.training)
    cut = data.draw(st.integers(0, n))
    start = prepared(name, options, world)

    def elsewhere(rows):
        worker = make_score(
            name, start.settings, classes=world.classes, width=world.width, head=world.head
        )
        worker.resume(start.sample_state(), {})
        worker.update(world.training[rows], world.labels[rows])
        back = copy.deepcopy(start)
        back.resume(start.sample_state(), worker.stream_state())
        return back

    here = merged(streamed(start, world, slice(0, cut)), streamed(start, world, slice(cut, n)))
    there = merged(elsewhere(slice(0, cut)), elsewhere(slice(cut, n)))
    assert bits_of(finished(there)) == bits_of(finished(here))


@pytest.mark.parametrize('name', SCORES)
def test_what_a_stream_leaves_is_bounded_whatever_its_length(name):
    world = make_world(0, 3, 9, 60, 5, 'relu', 0.0, False)
    options = {
        'pattern': {'max_patterns': 20}, 'knn': {'bank': 20}, **NEEDED
    }.get(name, {})
    start = prepared(name, options, world)
    rng = np.random.default_rng(1)

    def left(images):
        score = copy.deepcopy(start)
        for _ in range(images // 60):
            more = world.training.features + rng.normal(size=(60, 9)).astype(np.float32)
            score.update(
                Activations(
                    world.training.logits, more, world.training.means,
                    samples=world.training.samples, background=world.training.background,
                ),
                world.labels,
            )
        held = sum(array.nbytes for array in score.stream_state().values())
        return held, len(pickle.dumps(score))

    few, many = left(600), left(6000)
    assert few[0] == many[0]
    assert many[1] <= 1.02 * few[1]  # also what is held on the way


# A bounded sample.


@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=60),
    capacity=st.integers(0, 12), distinct=st.booleans(), seed=st.integers(0, 9),
    parts=st.integers(1, 4), fewest=st.sampled_from([1, 4, 64]),
)
@settings(max_examples=150, deadline=None)
def test_a_reservoir_keeps_the_rows_with_the_smallest_hashes(
    rows, capacity, distinct, seed, parts, fewest
):
    rows = np.array(rows, np.uint64).reshape(-1, 2)
    order = np.argsort(bits.hashes(rows), kind='stable')
    expected = [tuple(row) for row in rows[order].tolist()]
    if distinct:
        expected = list(dict.fromkeys(expected))
    expected = sorted(expected[: capacity or None])
    rng = np.random.default_rng(seed)
    with patch.object(reservoir, '_MIN_ROWS', fewest):
        kept = [reservoir.Reservoir(2, capacity=capacity, distinct=distinct) for _ in range(parts)]
        for row in rng.permutation(rows):
            kept[rng.integers(parts)].add(row[None])
        for other in kept[1:]:
            before = other.rows()
            kept[0].merge(other)
            np.testing.assert_array_equal(other.rows(), before)
        found = kept[0].rows()
        assert sorted(map(tuple, found.tolist())) == expected
        assert not capacity or kept[0].nbytes <= 16 * max(fewest, 2 * capacity)
        again = reservoir.Reservoir(2, capacity=capacity, distinct=distinct)
        again.restore(found)
        np.testing.assert_array_equal(again.rows(), found)


# Asking it.


@every_score
@given(data=st.data())
@quick
def test_a_batch_equals_its_frames(name, options, data):
    world = data.draw(worlds(name))
    score = fitted(name, options, world)
    test = world.test
    limits = st.sampled_from([1, 100, 1 << 22])
    with (
        patch.object(pattern, '_CHUNK_WORDS', data.draw(limits)),
        patch.object(knn, '_BLOCK', data.draw(limits)),
    ):
        batch = score.score(test)
    assert (batch.shape, batch.dtype) == ((len(test),), np.float64)
    assert np.isfinite(batch).all()
    frames = [score.score_frame(test[i : i + 1]) for i in range(len(test))]
    assert {type(value) for value in frames} == {float}
    if name in PRODUCTS:
        assert_close(score, test, batch, frames)
    else:
        assert batch.tolist() == frames
    # A stream that starts afresh, as after a gap.
    score.forget()
    assert score.score_frame(test[:1]) == frames[0]
    np.testing.assert_array_equal(score.score(test), score.score(test))


@pytest.mark.parametrize('name', [name for name, score in SCORES.items() if not score.windowed])
@given(data=st.data())
@quick
def test_the_order_of_the_test_images_does_not_matter(name, data):
    world = data.draw(worlds(name))
    score = fitted(name, NEEDED.get(name, {}), world)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(world.test))
    scores, permuted = score.score(world.test)[order], score.score(world.test[order])
    if name in PRODUCTS:
        assert_close(score, world.test, permuted, scores)
    else:
        np.testing.assert_array_equal(permuted, scores)


@every_score
@given(data=st.data())
@quick
def test_asking_does_not_change_what_was_fitted(name, options, data):
    world = data.draw(worlds(name))
    score = fitted(name, options, world)
    fit, told, scores = bits_of(score), score.notes(), score.score(world.test)
    for i in range(len(world.test)):
        score.score_frame(world.test[i : i + 1])
    score.score(world.training)
    score.forget()
    assert bits_of(score) == fit
    assert score.notes() == told
    np.testing.assert_array_equal(score.score(world.test), scores)


# Keeping it.


@every_score
@given(data=st.data())
@quick
def test_saved_and_loaded_equals_in_memory_bit_for_bit(name, options, data):
    world = data.draw(worlds(name))
    score = fitted(name, options, world)
    kept = yaml.safe_load(yaml.safe_dump(score.settings))
    assert kept == score.settings
    assert {key: kept[key] for key in options} == options
    other = make_score(name, kept, classes=world.classes, width=world.width, head=world.head)
    assert other.settings == score.settings
    other.restore(safetensors.numpy.load(safetensors.numpy.save(score.tensors())))
    assert bits_of(other) == bits_of(score)
    assert other.channel_mean_layers == score.channel_mean_layers
    assert other.dropout_passes == score.dropout_passes
    np.testing.assert_array_equal(other.score(world.test), score.score(world.test))
    for i in range(len(world.test)):
        frame = world.test[i : i + 1]
        assert other.score_frame(frame) == score.score_frame(frame)


@pytest.mark.parametrize('name', SCORES)
def test_what_the_network_cannot_give_is_refused_before_the_stream(name):
    """The worlds above leave two kinds of network out for a reason."""
    signed = make_world(0, 3, 9, 20, 5, 'signed', 0.0, False)
    single = make_world(0, 1, 9, 20, 5, 'relu', 0.0, False)
    for world, refused in ((signed, name in ('ash', 'scale')), (single, name == 'fdbd')):
        if refused:
            with pytest.raises(NotApplicableError, match=name):
                prepared(name, NEEDED.get(name, {}), world)
        else:
            fitted(name, NEEDED.get(name, {}), world)


@pytest.mark.parametrize('size', [1, 30, 1000])
@pytest.mark.parametrize('case', ['one image', 'one image many times', 'one image of each class'])
@pytest.mark.parametrize('name', SCORES)
def test_training_images_that_do_not_vary_still_give_numbers(name, case, size):
    for seed in range(5):
        world = make_world(seed, 3, 9, 20, 5, 'relu', 0.0, False)
        first = [int(np.flatnonzero(world.labels == c)[-1]) for c in np.unique(world.labels)]
        rows = {
            'one image': [2], 'one image many times': [2] * 20, 'one image of each class': first
        }[case]

        def scaled(activations):
            factor = np.float32(size)
            return Activations(
                activations.logits,
                activations.features * factor,
                {layer: means * factor for layer, means in activations.means.items()},
                samples=activations.samples,
                background=activations.background,
            )

        score = make_score(
            name, NEEDED.get(name, {}), classes=3, width=9, head=world.head
        )
        score.prepare(scaled(world.training), world.labels)
        score.update(scaled(world.training[np.array(rows)]), world.labels[rows])
        score.finish()
        assert np.isfinite(score.score(scaled(world.test))).all()
