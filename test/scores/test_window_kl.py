"""Divergence of a window of frames from the predicted class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from degenerate_training import any_frames, degenerate
from formulas import (
    assert_class_without_variance_has_that_of_all,
    assert_equals,
    assert_options_enter,
    double,
    gaussians,
)
from training_data import WIDTH, as_class, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations


def formula(training, labels, test, head, window=10, max_age=300, floor=0.01):
    """Frames that the window lacks have the mean and the variance of training."""
    mean, variance = gaussians(training, labels, floor=floor)
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


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('window_kl', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'floor': 0.5}, {'window': 4, 'max_age': 9}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('window_kl', formula, options)


@pytest.mark.parametrize('count', [0, 1])
def test_a_class_without_a_variance_has_that_of_all_images(count):
    assert_class_without_variance_has_that_of_all('window_kl', formula, count)


def test_a_full_window_has_the_divergence_that_torch_computes():
    training, labels, head = make_data(10, 300)
    stream = as_class(make_data(11, 25)[0], 1)
    mean, variance = gaussians(training, labels)
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
    mean, variance = gaussians(training, labels)
    frame = Activations(np.array([[0, 5, 0]], 'f'), mean[1:2].astype(np.float32))
    # The class's mean itself: no shift, and one of W frames without its variance.
    expected = 0.5 * WIDTH * (-math.log(0.9) + 0.9 - 1)
    assert fitted('window_kl', training, labels, head).score_frame(frame) == pytest.approx(
        expected, rel=1e-4
    )


def test_frames_one_by_one_equal_a_batch_and_forgetting_starts_afresh():
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


def test_a_tiny_floor_still_holds_where_nothing_varies():
    training, labels, head = degenerate('constant features')
    score = fitted('window_kl', training, labels, head, floor=1e-9)
    assert np.isfinite(score.score(any_frames(training, head))).all()


@pytest.mark.parametrize('options', [{'window': 1}, {'floor': 0}])
def test_an_option_out_of_range_is_refused(options):
    with pytest.raises(NavMonitorError, match='^window_kl: '):
        empty('window_kl', make_head(), **options)
