"""The layers and the head that a probing forward pass shows."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny
import torch
from ending_network import Ending
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.layers import find_layer
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.network.torch.structure import probe_structure
from nav_monitor_ros.perception.preprocess import Preprocess

SIX = Preprocess(6, 6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_layers_are_numbered_in_the_order_of_execution():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(8, 2)
            self.unused = nn.Linear(3, 3)
            self.block = nn.Sequential(nn.Conv2d(3, 8, 6), nn.Flatten())

        def forward(self, images):
            return self.last(self.block(images))

    layers = probe_structure(Backwards().eval(), (3, 6, 6)).layers
    assert [(layer.number, layer.name, layer.kind, layer.shape) for layer in layers] == [
        (1, 'block.0', 'Conv2d', (8, 1, 1)),
        (2, 'block.1', 'Flatten', (8,)),
        (3, 'block', 'Sequential', (8,)),
        (4, 'last', 'Linear', (2,)),
    ]


def test_a_module_that_runs_twice_stands_where_it_last_ran():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.flatten, self.relu = nn.Flatten(), nn.ReLU()
            self.fc1, self.fc2 = nn.Linear(108, 9), nn.Linear(9, 2)

        def forward(self, images):
            return self.fc2(self.relu(self.fc1(self.relu(self.flatten(images)))))

    layers = probe_structure(Twice().eval(), (3, 6, 6)).layers
    assert [layer.name for layer in layers] == ['flatten', 'fc1', 'relu', 'fc2']
    assert layers[2].shape == (9,)


def test_layers_are_found_by_name_and_by_number(tiny_classifier):
    layers = tiny_classifier.layers
    assert find_layer(layers, 'pool').number == 3
    assert find_layer(layers, '3').name == 'pool'
    assert find_layer(layers, '-1').name == 'fc2'
    assert find_layer(layers, '-7').name == 'conv'
    assert find_layer(layers, 3).name == 'pool'
    assert find_layer(layers, -1).name == 'fc2'


@pytest.mark.parametrize('wanted', ['0', '8', '-8', 'fc', 'layer4', '', '1.5', ' '])
def test_a_layer_that_does_not_exist_is_answered_with_those_that_do(tiny_classifier, wanted):
    with pytest.raises(NavMonitorError) as caught:
        find_layer(tiny_classifier.layers, wanted)
    listed = "it has 1 'conv', 2 'relu1', 3 'pool', 4 'flatten', 5 'fc1', 6 'relu2', 7 'fc2'"
    assert listed in str(caught.value)


@pytest.mark.parametrize(
    'end', [nn.Identity(), nn.Softmax(1), nn.LogSoftmax(1), lambda x: x.softmax(1)]
)
def test_the_head_is_found_before_a_softmax(end):
    structure = probe_structure(Ending(end).eval(), (3, 6, 6))
    assert structure.head == 'fc2'
    assert structure.classes == 4


def test_a_network_that_does_not_end_in_a_linear_layer_has_no_head():
    assert probe_structure(Ending(torch.tanh).eval(), (3, 6, 6)).head is None


def test_dissecting_leaves_no_hooks_behind():
    network = tiny.network()
    probe_structure(network, (3, 12, 12))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize('shape', [(1, 12, 12), (3, 5, 5), (3, 300, 2)])
def test_images_that_the_network_cannot_take_are_refused(shape):
    with pytest.raises(NavMonitorError, match='check --size and --color') as caught:
        probe_structure(tiny.network(), shape)
    assert str(shape) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'network',
    [nn.Conv2d(3, 2, 3), nn.Sequential(nn.Flatten(0)), nn.LSTM(6, 2), Ending(lambda x: (x, x))],
)
def test_a_network_without_class_scores_is_refused(network):
    with pytest.raises(NavMonitorError, match=r'scores|cannot take'):
        probe_structure(network.eval(), (3, 6, 6))


class ConvolutionHead(nn.Module):
    """Network whose last layer is a 1 x 1 convolution of the pooled maps."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.maps, self.pool = nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1)
        self.drop, self.head, self.flatten = nn.Dropout(0.4), head, nn.Flatten()

    def forward(self, images):
        return self.flatten(self.head(self.drop(self.pool(self.maps(images).relu()))))


def test_a_convolution_of_one_position_is_a_head():
    network = ConvolutionHead(nn.Conv2d(6, 4, 1)).eval()
    linear = nn.Sequential(
        network.maps, nn.ReLU(), network.pool, nn.Flatten(), nn.Dropout(0.4), nn.Linear(6, 4),
    ).eval()
    with torch.no_grad():
        linear[5].weight.copy_(network.head.weight.flatten(1))
        linear[5].bias.copy_(network.head.bias)
    batch = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    found, expected = (
        Classifier(copy.deepcopy(each), Preprocess(8, 8)) for each in (network, linear)
    )
    for classifier in (found, expected):
        classifier.sample_dropout(7)
    ours, theirs = found(batch), expected(batch)
    for name in ('logits', 'features', 'samples'):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found.head.weight, expected.head.weight, rtol=1e-5)


def test_a_convolution_of_several_positions_is_none():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert probe_structure(network, (3, 8, 8)).head is None
    grouped = ConvolutionHead(nn.Conv2d(6, 4, 1, groups=2)).eval()
    assert probe_structure(grouped, (3, 8, 8)).head is None
