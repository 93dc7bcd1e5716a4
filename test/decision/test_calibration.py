"""Calibration of the fused score and its members, also on tracks."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.decision.calibration import CalibrationOptions, CalibrationScores, calibrate
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.decision.score_fusion import FUSED, fuse
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores.energy import Energy
from nav_monitor_ros.scores.msp import MaximumSoftmaxProbability


def _activations(rng, n, width=4):
    return Activations(
        rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, width)).astype(np.float32)
    )


def _scores():
    return {s.name: s(classes=3, width=4, head=None) for s in (Energy, MaximumSoftmaxProbability)}


def _calibrated(first, second, *, members=('energy', 'msp')):
    """Return the calibration of both scores by two sets of images."""
    sets = (
        None if images is None else CalibrationScores.of(_scores(), images)
        for images in (first, second)
    )
    options = CalibrationOptions(fusion_members=members, alpha=0.01, confidence=0.95)
    return calibrate(*sets, classes=3, options=options)


def test_the_fused_score_is_calibrated_on_images_of_its_own():
    rng = np.random.default_rng(2)
    first, second = _activations(rng, 500), _activations(rng, 700)
    scores = _scores()
    calibration = _calibrated(first, second)
    assert len(calibration.scores['energy']) == 1200
    assert len(calibration.fusion_p_values['energy']) == 500
    assert len(calibration.fused) == 700
    expected = sum(
        calibration.fusion_p_values[name].neg_log_p_values(score.score(second))
        for name, score in scores.items()
    )
    np.testing.assert_array_equal(calibration.fused.pooled.scores, np.sort(expected))


def test_fusing_is_fishers_sum():
    calibrated = {name: ConformalPValues(np.arange(100.0)) for name in 'ab'}
    scores = {'a': np.array([50.0, -1.0]), 'b': np.array([20.0, -1.0])}
    np.testing.assert_allclose(
        fuse(calibrated, scores, ['a', 'b']), [-np.log(51 / 101 * 81 / 101), 0.0]
    )


def test_realised_false_alarms_of_the_fused_score_stay_within_the_budget():
    rng = np.random.default_rng(3)
    calibration = _calibrated(_activations(rng, 2000), _activations(rng, 2000))
    fresh = _activations(rng, 50_000)
    p = calibration.p_values(
        {name: s.score(fresh) for name, s in _scores().items()}, fresh.predicted
    )
    assert np.mean(p[FUSED] <= calibration.thresholds[FUSED][fresh.predicted]) <= 0.012


def test_several_members_need_images_to_be_fused_by():
    rng = np.random.default_rng(2)
    with pytest.raises(NavMonitorError, match='several scores are fused by images of their own'):
        _calibrated(None, _activations(rng, 500))


def test_an_unknown_member_is_refused():
    rng = np.random.default_rng(2)
    with pytest.raises(NavMonitorError, match='pattern'):
        _calibrated(_activations(rng, 500), _activations(rng, 500), members=('pattern',))


def test_too_few_images_are_refused_with_the_number_needed():
    rng = np.random.default_rng(2)
    with pytest.raises(NavMonitorError, match='299 are needed'):
        _calibrated(_activations(rng, 500), _activations(rng, 200), members=('energy',))


def track_scores(rng, tracks, frames=10):
    """Return two scores of tracks whose frames are nearly alike, and each frame's track."""
    track = rng.normal(size=tracks).repeat(frames)
    scores = {name: track + 0.1 * rng.normal(size=len(track)) for name in 'ab'}
    return scores, np.arange(tracks).repeat(frames)


def calibrated_tracks(rng, tracks, *, grouped, alpha=0.02):
    first, first_groups = track_scores(rng, tracks // 2)
    second, second_groups = track_scores(rng, tracks)
    sets = (
        CalibrationScores(scores, np.zeros(len(groups), int), groups if grouped else None)
        for scores, groups in ((first, first_groups), (second, second_groups))
    )
    options = CalibrationOptions(fusion_members=('a', 'b'), alpha=alpha, confidence=0.9)
    return calibrate(*sets, classes=1, options=options)


@pytest.mark.parametrize('grouped', [False, True])
def test_the_budget_of_tracks_is_kept_where_they_are_known(grouped):
    rng = np.random.default_rng(0)
    fresh, _ = track_scores(rng, 20_000, frames=1)
    labels = np.zeros(20_000, int)
    held = []
    for _ in range(60):
        calibration = calibrated_tracks(rng, 150, grouped=grouped)
        p = calibration.p_values(fresh, labels)['fused']
        held.append(np.mean(p <= calibration.thresholds['fused'][0]) <= 0.02)
    assert (np.mean(held) >= 0.85) == grouped  # promised: 90 %


def test_too_few_tracks_are_refused_with_what_they_are_worth():
    rng = np.random.default_rng(0)
    with pytest.raises(NavMonitorError, match=r'1000 calibration images are worth \d+ independent'):
        calibrated_tracks(rng, 100, grouped=True, alpha=0.01)
    assert calibrated_tracks(rng, 100, grouped=False, alpha=0.01).effective_size == 1000


def test_a_single_score_with_too_few_independent_images_has_no_threshold_and_cannot_decide():
    rng = np.random.default_rng(0)
    groups = np.arange(40).repeat(10)
    independent = {'good': rng.normal(size=400)}
    alike = {'bad': rng.normal(size=40).repeat(10)}
    scores = {**independent, **alike}
    labels = np.zeros(400, int)
    images = CalibrationScores(scores, labels, groups)
    options = CalibrationOptions(fusion_members=('good',), alpha=0.02, confidence=0.95)
    calibration = calibrate(images, images, classes=1, options=options)
    assert set(calibration.thresholds) == {'good', 'fused'}
    with pytest.raises(NavMonitorError, match="score 'bad' cannot decide"):
        Judge({'good': None, 'bad': None}, calibration, ['one'], decisive='bad')
