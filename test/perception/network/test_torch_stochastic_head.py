"""Passes with dropout on: what one forward pass yields with them."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import tiny
import torch
from dropout_networks import (
    NETWORKS,
    PIXELS,
    assert_same,
    batch_of,
    built,
    close,
    dropped_maps,
    every_network,
    in_service,
    one_dropout,
    slow_samples,
    two_dropouts,
)
from torch import nn

from nav_monitor_ros.perception.activations import Activations

pytestmark = pytest.mark.once


@every_network
def test_samples_equal_the_whole_network_run_with_the_same_masks(make):
    network, batch = built(make), batch_of(3)
    classifier = in_service(network, 6, seed=5)
    for _ in range(2):
        samples = classifier(batch).samples
        assert (samples.shape, samples.dtype) == ((3, 6, 4), np.float32)
        close(samples, tiny.centred(slow_samples(network, classifier, batch)))


@pytest.mark.parametrize('p', [0.1, 0.5, 0.8])
def test_every_subset_of_the_neurons_is_left_as_often_as_it_should(p):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 3), nn.Dropout(p), nn.Linear(3, 4)
    ).eval()
    passes, batch = 4000, batch_of(2)
    activations = in_service(network, passes)(batch)
    weight, bias = network[3].weight.detach().numpy(), network[3].bias.detach().numpy()
    unit = tiny.unit_of(weight)
    for features, samples in zip(activations.features, activations.samples, strict=True):
        found = np.zeros(passes, int)
        for kept in itertools.product([0, 1], repeat=3):
            logits = tiny.centred(weight @ (features / unit * kept / (1 - p)) + bias)
            hits = (np.abs(samples - logits) < 1e-4).all(axis=1)
            share = np.prod(np.where(kept, 1 - p, p))
            assert abs(hits.mean() - share) < 5 * np.sqrt(share * (1 - share) / passes)
            found += hits
        assert (found == 1).all()


@pytest.mark.parametrize('p', [0.2, 0.5, 0.9])
def test_many_passes_before_a_linear_head_average_to_the_logits(p):
    passes = 6000  # more than are run at once
    activations = in_service(lambda: one_dropout(p), passes)(batch_of(4))
    samples = activations.samples.astype(np.float64)
    error = samples.std(axis=1) / np.sqrt(passes)
    assert (error > 0).all()
    assert (np.abs(samples.mean(axis=1) - activations.logits) < 5 * error).all()


def test_dropout_of_everything_leaves_the_bias():
    batch = batch_of(3)
    network = built(lambda: one_dropout(1.0))
    samples = in_service(network, 4)(batch).samples
    bias = tiny.centred(network[4].bias.detach().numpy())
    close(samples, np.broadcast_to(bias, samples.shape))


class Called(nn.Module):
    """Dropout that is called as a function immediately before the head, as in timm."""

    def __init__(self, p=0.4):
        super().__init__()
        self.fc1, self.p, self.fc2 = nn.Linear(PIXELS, 12), p, nn.Linear(12, 4)

    def forward(self, images):
        features = self.fc1(images.flatten(1)).relu()
        return self.fc2(nn.functional.dropout(features, p=self.p, training=self.training))


def test_dropout_that_is_called_before_the_head_gives_the_samples_of_a_layer():
    called = built(Called)
    module = one_dropout()
    module.load_state_dict({
        f'{"1" if name.startswith("fc1") else "4"}.{name.partition(".")[2]}': value
        for name, value in called.state_dict().items()
    })
    batch = batch_of(3)
    expected = in_service(module.eval(), 7)(batch)
    found = in_service(called, 7)(batch)
    assert found.samples.std(axis=1).min() > 0
    close(found.samples, expected.samples)
    close(found.logits, expected.logits)


@pytest.mark.parametrize(
    'end',
    [
        lambda: [nn.Flatten(), nn.Linear(20, 4), nn.BatchNorm1d(4)],
        lambda: [nn.Flatten(), nn.Linear(20, 4), nn.LeakyReLU(0.1, inplace=True)],
        lambda: [nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    ],
    ids=['a layer behind the last linear one', 'an activation behind it', 'a convolution'],
)
def test_without_a_linear_head_the_passes_give_what_the_network_gives(end):
    activations = in_service(
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(1e-9), *end()
        ),
        4,
        layer='1',
    )(batch_of(3))
    close(activations.samples, np.repeat(activations.logits[:, None], 4, axis=1))


@every_network
def test_an_image_has_the_same_samples_alone_and_in_a_batch(make):
    classifier = in_service(make, 20)
    batch = batch_of(5)
    together = classifier(batch).samples
    for i in (3, 0, 4):
        close(classifier(batch[i : i + 1]).samples[0], together[i])


def test_more_rows_than_run_at_once_change_nothing():
    batch = batch_of(9)
    classifier = in_service(two_dropouts, 1500)  # 13500 rows
    together = classifier(batch).samples
    assert together.shape == (9, 1500, 4)
    for i in range(9):
        close(classifier(batch[i : i + 1]).samples[0], together[i])


@pytest.mark.parametrize('make', [one_dropout, two_dropouts, dropped_maps])
def test_the_seed_alone_decides(make):
    batch = batch_of(4)
    first = in_service(make, 8, seed=1)
    expected = first(batch).samples
    torch.manual_seed(77)  # torch's own state plays no part
    second = in_service(make)
    second(batch)
    second.sample_dropout(3, seed=9)
    second(batch[:1])
    second.sample_dropout(8, seed=1)
    np.testing.assert_array_equal(second(batch).samples, expected)
    np.testing.assert_array_equal(first(batch).samples, expected)
    second.sample_dropout(8, seed=2)
    assert (np.abs(second(batch).samples - expected) > 1e-3).any(axis=(0, 2)).sum() >= 6
    assert len(np.unique(expected[0], axis=0)) == 8  # each pass has masks of its own


def test_torchs_own_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    classifier = in_service(one_dropout)
    torch.manual_seed(5)
    classifier.sample_dropout(10)
    classifier(batch_of(2))
    assert torch.equal(torch.rand(3), expected)


# The rest of the forward pass.


def maps_of(classifier):
    return [layer.name for layer in classifier.layers]


@every_network
def test_the_passes_disturb_nothing_else(make):
    network = built(make)
    watched = maps_of(in_service(network))
    plain, sampling = in_service(network, watch=watched), in_service(network, 7, watch=watched)
    for classifier in (plain, sampling):
        classifier.tap(watched)
    for seed, count in enumerate((1, 3, 2)):
        batch = batch_of(count, seed)
        expected, found = plain(batch), sampling(batch)
        assert expected.samples is None
        assert found.samples.shape == (count, 7, 4)
        assert_same(found, expected)
        # What was handed out stays as it was when the next pass runs.
        kept = copy.deepcopy(found)
        sampling(batch_of(count, 50))
        assert_same(found, kept)
        np.testing.assert_array_equal(found.samples, kept.samples)


@pytest.mark.parametrize('make', [two_dropouts, NETWORKS['two dropouts, in place'], dropped_maps])
def test_any_monitored_layer_is_left_alone(make):
    network, batch = built(make), batch_of(3)
    for layer in maps_of(in_service(network)):
        sampling = in_service(network, 7, layer=layer)
        for _ in range(2):
            found = sampling(batch)
            assert_same(found, in_service(network, layer=layer)(batch))
            close(found.samples, in_service(network, 7)(batch).samples)


def test_no_passes_switch_it_off():
    classifier, batch = in_service(one_dropout), batch_of(2)
    assert classifier(batch).samples is None
    classifier.sample_dropout(0)
    assert classifier(batch).samples is None
    classifier.sample_dropout(5)
    assert classifier(batch).samples.shape == (2, 5, 4)
    classifier.sample_dropout(0)
    assert classifier(batch).samples is None
    in_service(lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4))).sample_dropout(0)


def test_parts_of_a_batch_join_and_split_with_their_samples():
    classifier, batch = in_service(one_dropout, 5, background=0), batch_of(6)
    whole = classifier(batch)
    joined = Activations.concatenate([classifier(batch[:2]), classifier(batch[2:])])
    close(joined.samples, whole.samples)
    close(joined.background, whole.background)
    np.testing.assert_array_equal(whole[1:4].samples, whole.samples[1:4])
    np.testing.assert_array_equal(whole[1:4].background, whole.background[1:4])
