"""Every score fitted in batches, in parts on several machines, and after an interruption."""

from __future__ import annotations

import copy
import pickle
from unittest.mock import patch

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from scenarios import (
    SUMS,
    assert_equal_fit,
    bits_of,
    every_score,
    finished,
    fitted,
    make_scenario,
    merged,
    prepared,
    quick,
    scenarios,
    streamed,
)
from training_data import NEEDED

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores import reservoir
from nav_monitor_ros.scores.registry import SCORES, make_score


@every_score
@given(data=st.data())
@quick
def test_parts_in_any_number_merge_into_what_one_stream_gives(name, options, data):
    scenario = data.draw(scenarios(name))
    part_of = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
        0, data.draw(st.integers(1, 4)), len(scenario.training)
    )
    start = prepared(name, options, scenario)
    whole = streamed(start, scenario, slice(None))
    parts = [streamed(start, scenario, part_of == k) for k in range(part_of.max() + 1)]
    assert_equal_fit(
        finished(merged(*parts)), finished(whole), scenario.test, exact=name not in SUMS
    )


@every_score
@given(data=st.data())
@quick
def test_merging_is_associative_and_commutative_and_leaves_the_other_as_it_was(
    name, options, data
):
    scenario = data.draw(scenarios(name))
    n = len(scenario.training)
    cuts = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    start = prepared(name, options, scenario)
    rows = [slice(0, cuts[0]), slice(cuts[0], cuts[1]), slice(cuts[1], n)]
    a, b, c = (streamed(start, scenario, part) for part in rows)
    left = finished(merged(merged(a, b), c))
    right = finished(merged(a, merged(b, c)))
    assert_equal_fit(left, right, scenario.test, exact=name not in SUMS)
    # The sum of two numbers is the same either way round, to the last bit.
    turned = finished(merged(c, merged(b, a)))
    assert_equal_fit(turned, left, scenario.test, exact=True)

    taker = start
    for part in (a, b, c):
        taker.merge(part)
        taker.update(scenario.training, scenario.labels)
    again = finished(merged(merged(a, b), c))
    assert bits_of(again) == bits_of(left)


@every_score
@given(data=st.data())
@quick
def test_any_batches_give_what_one_batch_gives(name, options, data):
    scenario = data.draw(scenarios(name))
    n = len(scenario.training)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=12)))  # empty batches too
    start = prepared(name, options, scenario)
    whole = finished(streamed(start, scenario, slice(None)))
    score = start
    # Small limits, so that what is seen is condensed on the way.
    with patch.object(reservoir, '_MIN_ROWS', data.draw(st.sampled_from([1, 8, 1 << 16]))):
        for first, last in zip([0, *cuts], [*cuts, n], strict=True):
            batch = copy.deepcopy(scenario.training[first:last])
            labels = scenario.labels[first:last].copy()
            score.update(batch, labels)
            for array in (batch.logits, batch.features, *batch.means.values()):
                array.setflags(write=True)
                array[:] = 7  # a caller may use its buffers again
            labels[:] = 0
    score.finish()
    assert_equal_fit(score, whole, scenario.test, exact=name not in SUMS)


@every_score
@given(data=st.data())
@quick
def test_the_order_of_the_training_images_does_not_matter(name, options, data):
    scenario = data.draw(scenarios(name))
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(scenario.training))
    score = prepared(name, options, scenario, order)
    score.update(scenario.training[order], scenario.labels[order])
    score.finish()
    assert_equal_fit(
        score, fitted(name, options, scenario), scenario.test, exact=name not in SUMS
    )


@every_score
@given(data=st.data())
@quick
def test_a_stream_that_was_interrupted_goes_on_bit_for_bit(name, options, data):
    scenario = data.draw(scenarios(name))
    n = len(scenario.training)
    cut = data.draw(st.integers(0, n))
    start = prepared(name, options, scenario)
    whole = finished(streamed(streamed(start, scenario, slice(0, cut)), scenario, slice(cut, n)))
    half = streamed(start, scenario, slice(0, cut))
    kept = [
        safetensors.numpy.load(safetensors.numpy.save(tensors))
        for tensors in (half.sample_state(), half.stream_state())
    ]
    other = make_score(
        name, half.settings, classes=scenario.classes, width=scenario.width, head=scenario.head
    )
    other.resume(*kept)
    assert {k: v.tobytes() for k, v in other.stream_state().items()} == {
        k: v.tobytes() for k, v in half.stream_state().items()
    }
    resumed = finished(streamed(other, scenario, slice(cut, n)))
    assert bits_of(resumed) == bits_of(whole)
    np.testing.assert_array_equal(resumed.score(scenario.test), whole.score(scenario.test))


@every_score
@given(data=st.data())
@quick
def test_a_part_from_another_machine_merges_like_one_from_this(
    name, options, data
):
    scenario = data.draw(scenarios(name))
    n = len(scenario.training)
    cut = data.draw(st.integers(0, n))
    start = prepared(name, options, scenario)

    def on_another_machine(rows):
        worker = make_score(
            name, start.settings, classes=scenario.classes, width=scenario.width, head=scenario.head
        )
        worker.resume(start.sample_state(), {})
        worker.update(scenario.training[rows], scenario.labels[rows])
        back = copy.deepcopy(start)
        back.resume(start.sample_state(), worker.stream_state())
        return back

    parts = slice(0, cut), slice(cut, n)
    here = merged(*(streamed(start, scenario, part) for part in parts))
    there = merged(*(on_another_machine(part) for part in parts))
    assert bits_of(finished(there)) == bits_of(finished(here))


@pytest.mark.parametrize('name', SCORES)
def test_what_a_stream_leaves_is_bounded_whatever_its_length(name):
    scenario = make_scenario(0, 3, 9, 60, 5, 'relu', 0.0, False)
    options = {
        'pattern': {'max_patterns': 20}, 'knn': {'bank': 20}, **NEEDED
    }.get(name, {})
    start = prepared(name, options, scenario)
    rng = np.random.default_rng(1)

    def left(images):
        score = copy.deepcopy(start)
        for _ in range(images // 60):
            more = scenario.training.features + rng.normal(size=(60, 9)).astype(np.float32)
            score.update(
                Activations(
                    scenario.training.logits, more, scenario.training.means,
                    samples=scenario.training.samples, background=scenario.training.background,
                ),
                scenario.labels,
            )
        held = sum(array.nbytes for array in score.stream_state().values())
        return held, len(pickle.dumps(score))

    few, many = left(600), left(6000)
    assert few[0] == many[0]
    assert many[1] <= 1.02 * few[1]  # also what is held on the way
