"""Distance to the nearest training images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from formulas import assert_equals, assert_options_enter, double
from pytorch_ood_case import make_case, ours
from sklearn.neighbors import NearestNeighbors
from training_data import WIDTH, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError


def formula(training, labels, test, head, neighbours=10):
    def unit(rows):
        return double(rows) / np.linalg.norm(double(rows), axis=1, keepdims=True)

    search = NearestNeighbors(n_neighbors=neighbours, algorithm='brute').fit(
        unit(training.features))
    return search.kneighbors(unit(test.features))[0][:, -1]


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('knn', formula, rectified=rectified)


@pytest.mark.parametrize('options', [{'neighbours': 1}, {'neighbours': 37}])
def test_options_enter_as_in_the_formula(options):
    assert_options_enter('knn', formula, options)


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
        whole.score(test), formula(training, labels, test, head, 1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize('neighbours', [1, 10])
def test_equals_pytorch_ood(detectors, neighbours):
    c = make_case()
    detector = detectors.KNN(None, k=neighbours, algorithm='brute')
    detector.knn.set_params(n_jobs=1)
    expected = detector.fit_features(*c.fit).predict_features(c.features).numpy()
    np.testing.assert_allclose(
        ours('knn', c, bank=0, neighbours=neighbours), expected, rtol=0, atol=1e-4
    )


def test_the_images_decide_which_are_in_the_bank_not_rounding():
    training, labels, head = make_data(15, 200)
    ids = np.random.default_rng(0).integers(0, 2**63, 200).astype(np.uint64)
    known = dataclasses.replace(training, image_ids=ids)
    rounded = dataclasses.replace(known, features=known.features * np.float32(1 + 1e-6))
    one, other = (fitted('knn', data, labels, head, bank=40) for data in (known, rounded))
    np.testing.assert_allclose(one.bank, other.bank, rtol=1e-5)


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^knn: '):
        empty('knn', make_head(), neighbours=0)
