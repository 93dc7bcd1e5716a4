"""The values that enter the layers with weights, however a network is written."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.torch.classifier import Classifier

SIDE = tiny.SIDE
BATCH = np.random.default_rng(0).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)


class Written(nn.Module):
    """Two convolutions, with a shortcut, and a head; written as the test wants it."""

    def __init__(self, activation, *, normalise=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 3)
        self.activation = activation
        self.normalise = normalise

    def forward(self, images):
        if self.normalise:
            images = (images - 0.5) / 0.25
        maps = self.activation(self.conv1(images))
        maps = self.activation(self.conv2(maps) + self.shortcut(maps))
        return self.head(maps.mean((2, 3)))


def running(network, **options):
    return Classifier(network.eval(), tiny.PREPROCESS, **options)


@pytest.mark.parametrize('activation', [
    nn.ReLU(), nn.ReLU(inplace=True), functional.relu, torch.relu_, lambda maps: maps.clamp(min=0),
])
def test_the_rectified_values_are_found_however_they_are_rectified(activation):
    classifier = running(Written(activation))
    # The shortcut takes the same value as conv2, the first convolution the image.
    assert [one.name for one in classifier.inputs] == ['conv2:input', 'head:input']
    classifier.watch(['conv2:input'])
    classifier.tap(['conv2:input'])
    found = classifier(BATCH)
    conv1 = classifier.network.conv1
    expected = torch.relu(conv1(torch.from_numpy(BATCH))).detach().numpy()
    np.testing.assert_allclose(found.maps['conv2:input'], expected, atol=1e-6)
    np.testing.assert_allclose(found.means['conv2:input'], expected.mean((2, 3)), atol=1e-6)


def test_what_is_computed_from_the_image_without_weights_is_still_the_image():
    classifier = running(Written(nn.ReLU(), normalise=True))
    assert [one.name for one in classifier.inputs] == ['conv2:input', 'head:input']


def test_a_value_that_enters_a_layer_has_its_name_and_shape():
    classifier = running(Written(nn.ReLU()))
    (first, second) = classifier.inputs
    assert (first.number, first.kind, first.shape, first.channels) == (
        1, 'Conv2d', (6, SIDE, SIDE), 6)
    assert (second.number, second.kind, second.shape, second.channels) == (2, 'Linear', (6,), 6)
    with pytest.raises(NavMonitorError, match='no layer'):
        classifier.watch(['conv1:input'])


def test_channels_may_come_last():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mlp = nn.Conv2d(3, 7, 1), nn.Linear(7, 9)
            self.head = nn.Linear(9, 3)

        def forward(self, images):
            maps = functional.gelu(self.conv(images)).permute(0, 2, 3, 1)
            return self.head(functional.gelu(self.mlp(maps)).mean((1, 2)))

    classifier = running(Last())
    value = classifier.inputs[0]
    assert (value.name, value.shape, value.channels, value.size) == (
        'mlp:input', (SIDE, SIDE, 7), 7, SIDE)
    classifier.watch([value.name])
    classifier.tap([value.name])
    found = classifier(BATCH)
    np.testing.assert_allclose(
        found.means[value.name], found.maps[value.name].mean((1, 2)), atol=1e-6)


class Attending(nn.Module):
    """Attention over 16 tokens, by a module of torch or by functions on a module's weights."""

    def __init__(self, *, batch_first=True, functions=False, windows=1, named=False):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm = nn.Conv2d(3, 8, 3, stride=3), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.mlp, self.head = nn.Linear(8, 12), nn.Linear(12, 3)
        self.functions, self.windows, self.batch_first = functions, windows, batch_first
        self.named = named

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if not self.batch_first:
            tokens = tokens.transpose(0, 1)
        normed = self.norm(tokens)
        if self.functions:
            parts = normed.reshape(-1, normed.shape[1] // self.windows, 8)
            packed = functional.linear(
                parts, self.attention.in_proj_weight, self.attention.in_proj_bias)
            query, key, value = packed.chunk(3, -1)
            mixed = (query @ key.mT).softmax(-1) @ value
            out = self.attention.out_proj
            attended = functional.linear(mixed, out.weight, out.bias).reshape(normed.shape)
        elif self.named:
            attended = self.attention(query=normed, key=normed, value=normed)[0]
        else:
            attended = self.attention(normed, normed, normed, need_weights=False)[0]
        hidden = torch.relu(self.mlp(tokens + attended))
        return self.head(hidden.mean(1 if self.batch_first else 0))


@pytest.mark.parametrize(('options', 'first'), [
    ({}, 'attention:input'), ({'batch_first': False}, 'attention:input'),
    ({'named': True}, 'attention:input'),
])
def test_attention_is_a_layer_with_weights(options, first):
    classifier = running(Attending(**options))
    assert [one.name for one in classifier.inputs] == [first, 'mlp:input', 'head:input']
    assert [one.shape for one in classifier.inputs] == [(16, 8), (16, 8), (12,)]
    classifier.watch([first])
    network = classifier.network
    tokens = network.patches(torch.from_numpy(BATCH)).flatten(2).transpose(1, 2)
    expected = network.norm(tokens).mean(1).detach().numpy()
    np.testing.assert_allclose(classifier(BATCH).means[first], expected, atol=1e-5)


@pytest.mark.parametrize('windows', [1, 4])
def test_attention_by_functions_has_no_module_that_takes_its_value_but_the_others_do(windows):
    classifier = running(Attending(functions=True, windows=windows))
    # No module takes the normalised tokens, and mixed ones are no value of their own.
    assert [one.name for one in classifier.inputs] == ['mlp:input', 'head:input']


def test_functions_with_the_weights_of_a_module_use_its_input():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

        def forward(self, maps):
            return functional.conv2d(functional.pad(maps, (1, 1, 1, 1)), self.weight)

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), Block(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3))
    classifier = running(network)
    assert [one.name for one in classifier.inputs] == ['2:input', '6:input']
    assert classifier.inputs[0].shape == (8, SIDE, SIDE)


def test_the_windows_of_an_image_are_put_together():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.mlp, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, images):
            maps = torch.relu(self.conv(images)).permute(0, 2, 3, 1)
            parts = maps.reshape(-1, 4, 3, 4, 3, 8).transpose(2, 3).reshape(-1, 9, 8)
            return self.head(self.mlp(parts).reshape(len(images), -1, 8).mean(1))

    classifier = running(Windows())
    value = classifier.inputs[0]
    assert (value.name, value.shape, value.size) == ('mlp:input', (12, 12, 8), 12)
    classifier.watch([value.name])
    expected = torch.relu(classifier.network.conv(torch.from_numpy(BATCH))).mean((2, 3))
    np.testing.assert_allclose(
        classifier(BATCH).means[value.name], expected.detach().numpy(), atol=1e-6)


def test_a_network_whose_weights_are_in_no_module_has_no_inputs():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.kernels = nn.Parameter(torch.randn(6, 3, 3, 3))
            self.weight = nn.Parameter(torch.randn(3, 6))
            self.end = nn.Identity()

        def forward(self, images):
            maps = torch.relu(functional.conv2d(images, self.kernels))
            return self.end(maps.mean((2, 3)) @ self.weight.T)

    assert running(Bare(), layer='end').inputs == ()
