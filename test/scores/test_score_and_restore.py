"""Every fitted score: batches against single frames, and saving and loading."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import safetensors.numpy
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scenarios import (
    PRODUCTS,
    assert_close,
    bits_of,
    every_score,
    fitted,
    make_scenario,
    prepared,
    quick,
    scenarios,
)
from training_data import NEEDED

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores import knn, pattern
from nav_monitor_ros.scores.base import NotApplicableError
from nav_monitor_ros.scores.registry import SCORES, make_score


@every_score
@given(data=st.data())
@quick
def test_a_batch_equals_its_frames(name, options, data):
    scenario = data.draw(scenarios(name))
    score = fitted(name, options, scenario)
    test = scenario.test
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
    scenario = data.draw(scenarios(name))
    score = fitted(name, NEEDED.get(name, {}), scenario)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(scenario.test))
    scores, permuted = score.score(scenario.test)[order], score.score(scenario.test[order])
    if name in PRODUCTS:
        assert_close(score, scenario.test, permuted, scores)
    else:
        np.testing.assert_array_equal(permuted, scores)


@every_score
@given(data=st.data())
@quick
def test_asking_does_not_change_what_was_fitted(name, options, data):
    scenario = data.draw(scenarios(name))
    score = fitted(name, options, scenario)
    fit, told, scores = bits_of(score), score.notes(), score.score(scenario.test)
    for i in range(len(scenario.test)):
        score.score_frame(scenario.test[i : i + 1])
    score.score(scenario.training)
    score.forget()
    assert bits_of(score) == fit
    assert score.notes() == told
    np.testing.assert_array_equal(score.score(scenario.test), scores)


@every_score
@given(data=st.data())
@quick
def test_saved_and_loaded_equals_in_memory_bit_for_bit(name, options, data):
    scenario = data.draw(scenarios(name))
    score = fitted(name, options, scenario)
    kept = yaml.safe_load(yaml.safe_dump(score.settings))
    assert kept == score.settings
    assert {key: kept[key] for key in options} == options
    other = make_score(
        name, kept, classes=scenario.classes, width=scenario.width, head=scenario.head
    )
    assert other.settings == score.settings
    other.restore(safetensors.numpy.load(safetensors.numpy.save(score.tensors())))
    assert bits_of(other) == bits_of(score)
    assert other.channel_mean_layers == score.channel_mean_layers
    assert other.dropout_passes == score.dropout_passes
    np.testing.assert_array_equal(other.score(scenario.test), score.score(scenario.test))
    for i in range(len(scenario.test)):
        frame = scenario.test[i : i + 1]
        assert other.score_frame(frame) == score.score_frame(frame)


@pytest.mark.parametrize('name', SCORES)
def test_what_the_network_cannot_give_is_refused_before_the_stream(name):
    """The scenarios above leave two kinds of network out for a reason."""
    signed = make_scenario(0, 3, 9, 20, 5, 'signed', 0.0, False)
    single = make_scenario(0, 1, 9, 20, 5, 'relu', 0.0, False)
    for scenario, refused in ((signed, name in ('ash', 'scale')), (single, name == 'fdbd')):
        if refused:
            with pytest.raises(NotApplicableError, match=name):
                prepared(name, NEEDED.get(name, {}), scenario)
        else:
            fitted(name, NEEDED.get(name, {}), scenario)


@pytest.mark.parametrize('size', [1, 30, 1000])
@pytest.mark.parametrize('case', ['one image', 'one image many times', 'one image of each class'])
@pytest.mark.parametrize('name', SCORES)
def test_training_images_that_do_not_vary_still_give_numbers(name, case, size):
    for seed in range(5):
        scenario = make_scenario(seed, 3, 9, 20, 5, 'relu', 0.0, False)
        first = [int(np.flatnonzero(scenario.labels == c)[-1]) for c in np.unique(scenario.labels)]
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
            name, NEEDED.get(name, {}), classes=3, width=9, head=scenario.head
        )
        score.prepare(scaled(scenario.training), scenario.labels)
        score.update(scaled(scenario.training[np.array(rows)]), scenario.labels[rows])
        score.finish()
        assert np.isfinite(score.score(scaled(scenario.test))).all()
