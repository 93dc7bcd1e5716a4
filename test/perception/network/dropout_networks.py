"""Small networks with dropout, their classifiers, and reference results of their passes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess

SIX = Preprocess(6, 6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
PIXELS = 3 * 6 * 6


class Pooled(nn.Module):
    """Network like torchvision's: pooling, a functional flatten, dropout and the head."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(inplace=True)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.4, inplace=True), nn.Linear(7, 4))

    def forward(self, images):
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))


class Softmaxed(nn.Module):
    """Network that ends in a functional softmax."""

    def __init__(self):
        super().__init__()
        self.body = one_dropout()

    def forward(self, images):
        return self.body(images).softmax(1)


def one_dropout(p=0.4):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 12), nn.ReLU(), nn.Dropout(p), nn.Linear(12, 4)
    )


def two_dropouts(*, inplace=False):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(PIXELS, 12), nn.ReLU(inplace), nn.Dropout(0.5, inplace),
        nn.Linear(12, 9), nn.ReLU(inplace), nn.Dropout(0.2, inplace),
        nn.Linear(9, 4),
    )


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(20, 8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(8, 4),
    )


def dropout_first():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 12), nn.Dropout(0.4), nn.LeakyReLU(0.3, inplace=True),
        nn.Linear(12, 4),
    )


def dropped_maps():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(0.3), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.6), nn.Linear(20, 4), nn.Softmax(dim=1),
    )


NETWORKS = {
    'one dropout': one_dropout,
    'two dropouts': two_dropouts,
    'two dropouts, in place': lambda: two_dropouts(inplace=True),
    'a convolutional part before': convolutional,
    'an in-place layer behind dropout': dropout_first,
    'maps that drop out': dropped_maps,
    'pooling and a functional flatten': Pooled,
    'a softmax at the end': Softmaxed,
    'all drops out': lambda: one_dropout(1.0),
    'torchvision': lambda: torchvision.models.mobilenet_v3_small(num_classes=4),
}
every_network = pytest.mark.parametrize('make', NETWORKS.values(), ids=NETWORKS)


def built(make, seed=3):
    """Return the network with weights and statistics other than the initial ones."""
    torch.manual_seed(seed)
    network = make()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight, 1.0, 0.1)
    return network.eval()


def in_service(make, passes=0, seed=0, **options):
    network = make if isinstance(make, nn.Module) else built(make)
    classifier = Classifier(copy.deepcopy(network), SIX, **options)
    if passes:
        classifier.sample_dropout(passes, seed)
    return classifier


def batch_of(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# Reference samples.


class Masked(nn.Module):
    """Dropout with a given mask."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, values):
        return values * self.mask


def slow_samples(network, classifier, batch):
    """Run the complete network once per pass, with the masks that the classifier has drawn."""
    stochastic = classifier._stochastic
    name_of = {module: name for name, module in classifier._network.named_modules()}
    drawn = {
        name_of[module]: mask
        for module, mask in zip(stochastic._chain, stochastic._masks, strict=True)
        if mask is not None
    }
    dropouts = [name for name, m in network.named_modules() if isinstance(m, nn.Dropout)]
    assert sorted(drawn) == sorted(dropouts)
    results = []
    for k in range(classifier._passes):
        real = copy.deepcopy(network)
        for name in dropouts:
            parent, _, child = name.rpartition('.')
            setattr(real.get_submodule(parent), child, Masked(drawn[name][k]))
        logits = []
        linear = [m for m in real.modules() if isinstance(m, nn.Linear)][-1]
        linear.register_forward_hook(lambda _m, _i, output, kept=logits: kept.append(output))
        with torch.inference_mode():
            real(torch.from_numpy(batch))
        results.append(logits[0].numpy())
    return np.stack(results, axis=1)


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.features, theirs.features)
    for kind in ('means', 'maps'):
        mine, others = getattr(ours, kind), getattr(theirs, kind)
        assert mine.keys() == others.keys()
        for name, array in mine.items():
            np.testing.assert_array_equal(array, others[name], err_msg=f'{kind} of {name}')
