"""Networks that are random or look at the whole batch are refused where they are taken."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from onnx import helper
from onnx_files import BIAS, BODY, KERNELS, ONNX, WEIGHT, made
from torch import nn
from torch.nn import functional

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.torch.classifier import Classifier

MIXES = 'depends on the other images of its batch'
RANDOM = 'returns different values for the same image each time'


class Network(tiny.Bars):
    """The tiny network with something done to its features."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.relu1(self.conv(images)))
        features = self.relu2(self.fc1(self.flatten(maps)))
        return self.fc2(self.changed(features))

    def changed(self, features: torch.Tensor) -> torch.Tensor:
        return features


class FunctionalDropout(Network):
    """Dropout that nobody switches off."""

    def changed(self, features):
        return functional.dropout(features, 0.2)


class AlwaysTraining(Network):
    """A dropout layer that evaluation mode does not reach."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.2)

    def train(self, mode=True):
        return super().train(True)

    def changed(self, features):
        return self.dropout(features)


class Noisy(Network):
    """Noise on the weights."""

    def changed(self, features):
        return features + 0.1 * torch.randn_like(features)


class Counting(Network):
    """A state that each call changes."""

    calls = 0

    def changed(self, features):
        self.calls += 1
        return features * self.calls


class BatchNormInTraining(Network):
    """The statistics of the batch instead of the stored ones."""

    def forward(self, images):
        maps = functional.batch_norm(self.conv(images), None, None, training=True)
        return self.fc2(self.relu2(self.fc1(self.flatten(self.pool(self.relu1(maps))))))


class BatchNormOfFeatures(Network):
    """Batch norm that has no answer for one image."""

    def changed(self, features):
        return functional.batch_norm(features, None, None, training=True)


class NormalisedOverBatch(Network):
    """A norm over axis 0 instead of axis 1."""

    def changed(self, features):
        return functional.normalize(features, dim=0)


class AttentionOverBatch(Network):
    """Attention of which the images are the sequence: batch_first was forgotten."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(tiny.WIDTH, 2)

    def changed(self, features):
        rows = features.unsqueeze(1)  # (N, 1, D), taken for a sequence of N
        return features + 5 * self.attention(rows, rows, rows)[0].squeeze(1)


class AgainstTheFirst(Network):
    """The first image of a batch is the reference for all."""

    def changed(self, features):
        return features - features[:1]


class AgainstTheLast(Network):
    """The last image of a batch is the reference for all."""

    def changed(self, features):
        return features - features[-1:]


@pytest.mark.parametrize('kind', [FunctionalDropout, AlwaysTraining, Noisy, Counting])
def test_a_network_that_answers_otherwise_each_time_is_refused(kind):
    with pytest.raises(NavMonitorError, match=RANDOM):
        Classifier(kind(), tiny.PREPROCESS)


@pytest.mark.parametrize('kind', [
    BatchNormInTraining, NormalisedOverBatch, AttentionOverBatch, AgainstTheFirst, AgainstTheLast,
])
def test_a_network_whose_answer_depends_on_the_rest_of_the_batch_is_refused(kind):
    with pytest.raises(NavMonitorError, match=MIXES) as caught:
        Classifier(kind(), tiny.PREPROCESS)
    assert '\n' not in str(caught.value)


def test_a_network_that_cannot_take_one_image_is_refused():
    with pytest.raises(NavMonitorError, match='fails on a single image.*more than 1 value'):
        Classifier(BatchNormOfFeatures(), tiny.PREPROCESS)


def test_a_monitored_layer_that_depends_on_the_batch_is_refused_where_the_logits_do_not():
    class SideBranch(Network):
        def __init__(self):
            super().__init__()
            self.side = nn.BatchNorm1d(tiny.WIDTH, track_running_stats=False)

        def changed(self, features):
            if len(features) > 1:
                self.side(features)
            return features

    with pytest.raises(NavMonitorError):
        Classifier(SideBranch(), tiny.PREPROCESS, layer='side')
    Classifier(SideBranch(), tiny.PREPROCESS)


class BatchNorm(Network):
    """Batch norm and dropout as they should be."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(tiny.WIDTH)
        self.dropout = nn.Dropout(0.5)

    def changed(self, features):
        return self.dropout(self.norm(features))


class Attention(Network):
    """Attention over the parts of each image."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(tiny.WIDTH // 4, 2, batch_first=True)

    def changed(self, features):
        parts = features.unflatten(1, (4, -1))
        return features + self.attention(parts, parts, parts)[0].flatten(1)


class Dead(Network):
    """The same answer for every image."""

    def changed(self, features):
        return features * 0


class NotANumber(Network):
    """NaN for every image."""

    def changed(self, features):
        return features * float('nan')


@pytest.mark.parametrize('kind', [Network, BatchNorm, Attention, Dead, NotANumber])
def test_a_network_that_treats_each_image_alone_is_taken(kind):
    classifier = Classifier(kind(), tiny.PREPROCESS)
    batch = np.random.default_rng(3).random((2, *classifier.input_shape), dtype=np.float32)
    assert classifier(batch).logits.shape == (2, 3)


def test_passes_with_dropout_of_our_own_are_not_taken_for_a_random_network():
    classifier = Classifier(BatchNorm(), tiny.PREPROCESS)
    classifier.sample_dropout(4)
    batch = np.random.default_rng(3).random((2, *classifier.input_shape), dtype=np.float32)
    samples = classifier(batch).samples
    assert samples.shape == (2, 4, 3)
    assert np.ptp(samples, axis=1).max() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_what_sixteen_bits_round_is_no_dependence_on_the_batch(dtype):
    class Half(Network):
        def forward(self, images):
            return super().forward(images.to(dtype))

    assert Classifier(Half().to(dtype), tiny.PREPROCESS).classes == 3


def onnx_network(tmp_path, *nodes):
    """Start a network in ONNX form that makes ``changed`` of its features."""
    constants = {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS}
    end = helper.make_node('Gemm', ['changed', 'w', 'b'], ['logits'])
    path = made(tmp_path, [*BODY, *nodes, end], constants)
    return start_network(ONNX, path, tiny.PREPROCESS)


@pytest.mark.parametrize(('nodes', 'words'), [
    ([helper.make_node('ReduceMean', ['features'], ['mean'], axes=[0], keepdims=1),
      helper.make_node('Sub', ['features', 'mean'], ['changed'])], MIXES),
    ([helper.make_node('RandomNormalLike', ['features'], ['noise']),
      helper.make_node('Add', ['features', 'noise'], ['changed'])], RANDOM),
], ids=['mixes', 'random'])
def test_a_network_in_onnx_form_is_refused_for_the_same_reasons(tmp_path, nodes, words):
    with pytest.raises(NavMonitorError, match=words):
        onnx_network(tmp_path, *nodes)


def test_a_network_in_onnx_form_that_treats_each_image_alone_is_taken(tmp_path):
    node = helper.make_node('Relu', ['features'], ['changed'])
    assert onnx_network(tmp_path, node).classes == 4
