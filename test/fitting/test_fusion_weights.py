"""Weights of the fused score that are learned from proxies of unknown images."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import yaml
from sklearn.linear_model import LogisticRegression

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import configure_for_scores
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.fusion_weights import FEWEST, RIDGE, fit_weights, learn_fusion_weights
from nav_monitor_ros.fitting.proxy_images import MAKERS, make_images

NAMED = [(kind, name) for kind, named in MAKERS.items() for name in named]


def terms(rng, count, *means):
    """Return -log p of images: exponentially distributed, with mean 1 for normal ones."""
    return rng.exponential(1.0, (count, len(means))) * means


def activations(bundle):
    running = tiny.classifier()
    configure_for_scores(running, bundle.scores.values())
    return run(running, tiny.source(7, 20))


@pytest.fixture(scope='module')
def weighted():
    return tiny.fitted(tiny.classifier(), fusion='weighted')


@pytest.mark.parametrize(('kind', 'name'), NAMED)
@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 32, 3), (9, 17, 3)])
def test_proxies_have_the_shape_of_the_images_and_differ_from_them(kind, name, shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape)).astype(np.uint8)
    labels = np.arange(20) % 3
    before = images.copy()
    made = make_images(MAKERS[kind][name], images, labels, 7, np.random.default_rng(1))
    assert made.shape == (7, *shape) and made.dtype == np.uint8
    assert np.array_equal(images, before)
    assert all(not (one == images).all(axis=(1, 2, 3)).any() for one in made)
    again = make_images(MAKERS[kind][name], images, labels, 7, np.random.default_rng(1))
    assert np.array_equal(made, again)


@pytest.mark.parametrize(('kind', 'name'), NAMED)
def test_proxies_are_made_of_images_of_a_single_class_too(kind, name):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    made = make_images(
        MAKERS[kind][name], images, np.zeros(5, int), 3, np.random.default_rng(1))
    assert made.shape == (3, 16, 16, 3)


def test_the_weights_are_those_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    normal, unknown = terms(rng, 500, 1, 1, 1), terms(rng, 500, 3, 2, 1.6)
    found = fit_weights(normal, [[unknown]])
    # The loss here is a sum of two means, that of scikit-learn a sum: C = 1 / (2 * RIDGE * n).
    expected = LogisticRegression(C=1 / (2 * RIDGE * 500), tol=1e-8, max_iter=10_000).fit(
        np.concatenate([normal, unknown]), np.repeat([0, 1], 500)).coef_[0]
    assert (expected > 0).all()
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-4)
    assert found.mean() == pytest.approx(1)


def test_a_member_that_tells_nothing_or_the_opposite_has_no_weight():
    rng = np.random.default_rng(0)
    normal, unknown = terms(rng, 2000, 1, 1, 1), terms(rng, 2000, 3, 1, 0.5)
    found = fit_weights(normal, [[unknown]])
    assert found[2] == 0 and found[1] < 0.1 * found[0]
    assert fit_weights(normal, [[terms(rng, 2000, 0.5, 0.5, 0.5)]]) is None


def test_every_kind_has_the_same_weight_and_so_has_every_part_of_a_kind():
    rng = np.random.default_rng(0)
    normal = terms(rng, 300, 1, 1)
    first, second, third = (terms(rng, 200, *means) for means in ((3, 1), (1, 3), (2, 2)))
    found = fit_weights(normal, [[first, second], [third]])
    repeated = fit_weights(
        np.tile(normal, (3, 1)),
        [[np.tile(first, (5, 1)), second], [third, third, np.tile(third, (2, 1))]],
    )
    np.testing.assert_allclose(found, repeated, rtol=1e-4)
    assert not np.allclose(found, fit_weights(normal, [[first], [second], [third]]), rtol=1e-2)


def test_a_weighted_fused_score_is_the_weighted_sum_of_its_members(weighted):
    calibration = weighted.calibration
    weights = calibration.fusion_weights
    assert set(weights) == set(calibration.fusion_members) and len(weights) > 1
    assert np.std(list(weights.values())) > 0.05
    judge = Judge(weighted.scores, calibration, weighted.class_names)
    seen = activations(weighted)
    scores = judge.scores_of(seen)
    expected = sum(
        weight * calibration.fusion_p_values[name].neg_log_p_values(scores[name])
        for name, weight in weights.items()
    )
    np.testing.assert_allclose(scores[FUSED], expected)
    for row in range(3):
        verdict = judge.judge(seen[row:row + 1])
        assert verdict.scores[FUSED].score == pytest.approx(scores[FUSED][row])
        assert sum(verdict.fusion_terms.values()) == pytest.approx(scores[FUSED][row])


def test_the_weights_do_not_depend_on_the_images_that_calibrate_the_fused_score(weighted):
    """Otherwise the false-alarm budget would not hold."""
    equal = tiny.fitted(tiny.classifier())
    assert not equal.calibration.fusion_weights
    fused = {name: equal.calibration.fusion_p_values[name] for name in equal.scores
             if name in weighted.calibration.fusion_members}
    for name, p_values in fused.items():
        assert np.array_equal(
            p_values.scores, weighted.calibration.fusion_p_values[name].scores)
    assert len(equal.calibration.fused) == len(weighted.calibration.fused)


def test_the_same_seed_gives_the_same_weights(weighted):
    again = tiny.fitted(tiny.classifier(), fusion='weighted')
    assert again.calibration.fusion_weights == weighted.calibration.fusion_weights


def test_weights_are_stored_and_a_version_that_ignores_them_refuses_the_bundle(weighted, tmp_path):
    save_bundle(weighted, tiny.classifier(), tmp_path / 'b', card='')
    described = yaml.safe_load((tmp_path / 'b' / 'bundle.yaml').read_text())
    assert described['schema'] == 4
    read = load_bundle(tmp_path / 'b')
    assert read.calibration.fusion_weights == weighted.calibration.fusion_weights
    seen = activations(weighted)
    first, second = (
        Judge(b.scores, b.calibration, b.class_names).scores_of(seen)[FUSED]
        for b in (weighted, read)
    )
    assert np.array_equal(first, second)
    save_bundle(tiny.fitted(tiny.classifier()), tiny.classifier(), tmp_path / 'equal', card='')
    assert yaml.safe_load((tmp_path / 'equal' / 'bundle.yaml').read_text())['schema'] == 3


@pytest.mark.parametrize('spoil', [
    lambda weights: weights.pop(next(iter(weights))),
    lambda weights: weights.update(msp=1.0),
    lambda weights: weights.update(dict.fromkeys(weights, 0.0)),
    lambda weights: weights.update(dict.fromkeys(weights, float('nan'))),
    lambda weights: weights.update(dict.fromkeys(weights, -1.0)),
    lambda weights: weights.update(dict.fromkeys(weights, 'much')),
])
def test_malformed_weights_are_refused(weighted, tmp_path, spoil):
    save_bundle(weighted, tiny.classifier(), tmp_path / 'b', card='')
    path = tmp_path / 'b' / 'bundle.yaml'
    described = yaml.safe_load(path.read_text())
    spoil(described['calibration']['fusion_weights'])
    path.write_text(yaml.safe_dump(described))
    with pytest.raises(NavMonitorError, match=r'bundle\.yaml'):
        load_bundle(tmp_path / 'b')


def test_too_few_images_give_equal_weights_and_that_is_said(weighted, caplog):
    members = {name: weighted.scores[name] for name in ('pattern', 'energy')}
    source = tiny.source(9, FEWEST - 1)
    scores = {name: np.zeros(FEWEST - 1) for name in members}
    found = learn_fusion_weights(tiny.classifier(), members, source, scores, seed=0)
    assert found == {'pattern': 1.0, 'energy': 1.0}
    assert f'only {FEWEST - 1} images' in caplog.text


class Unsteady:
    """A fitted score that has no finite value for some images."""

    def __init__(self, score, values):
        self._score, self._values = score, values

    def score(self, seen):
        found = self._score.score(seen).astype(float)
        found[: len(self._values) * (len(found) // 4)] = np.repeat(
            self._values, len(found) // 4)
        return found


@pytest.mark.parametrize('values', [[np.nan], [np.inf, -np.inf], [np.nan, np.inf], [1e308]])
def test_images_without_a_finite_score_do_not_spoil_the_weights(weighted, values):
    scores = {name: weighted.scores[name] for name in ('pattern', 'energy')}
    source = tiny.source(9, 60)
    running = tiny.classifier()
    configure_for_scores(running, scores.values())
    reference = {name: score.score(run(running, source)) for name, score in scores.items()}
    scores['energy'] = Unsteady(scores['energy'], values)
    found = learn_fusion_weights(running, scores, source, reference, seed=0)
    assert found and all(np.isfinite(weight) and weight > 0 for weight in found.values())
    assert found != dict.fromkeys(scores, 1.0)  # learned, although some images are left out


def test_kinds_without_images_do_not_count():
    rng = np.random.default_rng(0)
    normal, unknown, none = terms(rng, 300, 1, 1), terms(rng, 200, 3, 2), np.zeros((0, 2))
    found = fit_weights(normal, [[unknown, none], [none], []])
    np.testing.assert_allclose(found, fit_weights(normal, [[unknown]]), rtol=1e-6)
    assert fit_weights(normal, [[none]]) is None
    assert fit_weights(none, [[unknown]]) is None


def test_an_unknown_fusion_is_refused():
    with pytest.raises(NavMonitorError, match="--fusion 'best' is not equal or weighted"):
        FitOptions(fusion='best')
