"""The detectors of pytorch-ood, next to our scores."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.pytorch_ood_detectors import PREFIX, fit_peers
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.registry import make_score

WIDTH = 24


def world(n, seed, *, classes=3, shift=0.0):
    rng = np.random.default_rng(seed)
    weight = np.random.default_rng(9).normal(size=(classes, WIDTH)).astype(np.float32)
    head = Head(weight, np.zeros(classes, np.float32))
    labels = rng.integers(0, classes, n)
    features = np.maximum(rng.normal(shift, 0.5, (n, WIDTH)) + weight[labels], 0)
    features = features.astype(np.float32)
    means = {'conv': rng.normal(shift, 1, (n, 4)).astype(np.float32)}
    return Activations(head.logits(features), features, means), labels, head


@pytest.fixture(scope='module')
def peers():
    pytest.importorskip('pytorch_ood')
    training, labels, head = world(400, 0)
    return {peer.name.removeprefix(PREFIX): peer for peer in fit_peers(training, labels, head)}


def test_all_of_them_are_fitted_and_give_a_number_for_every_image(peers):
    assert {'MaxSoftmax', 'EnergyBased', 'KNN', 'Mahalanobis', 'RMD', 'ViM', 'SHE', 'ReAct',
            'ASH', 'SCALE', 'fDBD', 'GEN', 'DICE', 'MultiMahalanobis', 'NNGuide'} <= set(peers)
    batch, _, _ = world(60, 1)
    for name, peer in peers.items():
        scores = peer.score(batch)
        assert scores.shape == (60,) and scores.dtype == np.float64, name
        assert np.isfinite(scores).all(), name


def test_larger_is_stranger(peers):
    normal, _, _ = world(200, 2)
    strange, _, _ = world(200, 3, shift=3.0)
    for name in ('Mahalanobis', 'MultiMahalanobis', 'ViM', 'RMD', 'GMM'):
        assert np.median(peers[name].score(strange)) > np.median(peers[name].score(normal)), name


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [('energy', 'EnergyBased'), ('max_logit', 'MaxLogit'), ('she', 'SHE'), ('fdbd', 'fDBD'),
     ('react', 'ReAct'), ('vim', 'ViM'), ('msp', 'MaxSoftmax')],
)
def test_the_same_method_ranks_the_images_alike(peers, ours, theirs):
    training, labels, head = world(400, 0)
    score = make_score(ours, {}, classes=3, width=WIDTH, head=head)
    score.prepare(training, labels)
    score.update(training, labels)
    score.finish()
    batch, _, _ = world(100, 4)
    mine, other = score.score(batch), peers[theirs].score(batch)
    order = np.argsort(mine, kind='stable')
    # In the order of our scores theirs never fall, but for rounding.
    assert (np.diff(other[order]) >= -1e-4 * np.ptp(other)).all()


def test_a_class_without_training_images_leaves_nobody_out(peers):
    training, labels, head = world(400, 0)
    kept = labels != 1
    some = fit_peers(training[kept], labels[kept], head)
    assert {peer.name.removeprefix(PREFIX) for peer in some} == set(peers)


def test_without_a_head_the_others_remain(peers):
    training, labels, _ = world(300, 0)
    names = {peer.name.removeprefix(PREFIX) for peer in fit_peers(training, labels, None)}
    assert 'KNN' in names and 'MaxLogit' in names and 'ViM' not in names
    assert names < set(peers)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorch_ood', None)
    monkeypatch.setitem(sys.modules, 'pytorch_ood.detector', None)
    training, labels, head = world(20, 0)
    with pytest.raises(NavMonitorError, match=r"pip install 'nav_monitor_ros\[peers\]'"):
        fit_peers(training, labels, head)
