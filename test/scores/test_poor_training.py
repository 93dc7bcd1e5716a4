"""Every score on poor training data: finite numbers, or a refusal with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from degenerate_training import CONSTANT, POOR, any_frames, degenerate
from training_data import fitted

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.scores.registry import SCORES, make_score

MAY_REFUSE = {  # with the reason
    'pattern': (CONSTANT, 'no monitored neuron ever changes'),
    'pattern_soft': (CONSTANT, 'no monitored neuron ever changes'),
    'fdbd': ({'a network of one class'}, 'no decision boundary'),
}


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
