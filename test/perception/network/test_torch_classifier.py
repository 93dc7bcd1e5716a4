"""A network of torch in service: logits, features, heads, taps."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from ending_network import Ending
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.network.torch.cuda_graph import CudaGraph
from nav_monitor_ros.perception.network.torch.structure import probe_structure
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.runtime.incident_frames import held_bytes

SIX = Preprocess(6, 6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def batch_for(classifier, count=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *classifier.input_shape)).astype(np.float32)


# In service.


def test_logits_are_the_head_applied_to_the_features(tiny_classifier):
    found = tiny_classifier(batch_for(tiny_classifier))
    assert found.logits.shape == (5, 3) and found.logits.dtype == np.float32
    assert found.features.shape == (5, tiny.WIDTH) and found.features.dtype == np.float32
    head = tiny_classifier.head
    assert np.allclose(found.logits, found.features @ head.weight.T + head.bias, atol=1e-4)
    assert (found.features >= 0).all()  # after the ReLU: the head's input
    assert tiny_classifier.width == tiny.WIDTH and tiny_classifier.classes == 3


def test_logits_are_those_before_the_softmax():
    plain, soft = Classifier(Ending(nn.Identity()), SIX), Classifier(Ending(nn.Softmax(1)), SIX)
    batch = batch_for(plain)
    assert np.array_equal(plain(batch).logits, soft(batch).logits)
    assert (soft(batch).logits < 0).any()


def test_a_head_without_a_bias_has_zeros():
    classifier = Classifier(Ending(nn.Identity(), bias=False), SIX)
    assert classifier.head.bias.tolist() == [0.0] * 4


def test_a_monitored_map_is_averaged_over_positions():
    classifier = tiny.classifier('conv')
    classifier.tap(['conv'])
    found = classifier(batch_for(classifier))
    assert classifier.layer == 'conv' and classifier.width == 5
    assert np.allclose(found.features, found.maps['conv'].mean(axis=(2, 3)), atol=1e-6)
    assert classifier.head is None  # its weights say nothing of this layer


def test_a_monitored_sequence_is_averaged_over_its_tokens():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(6, 7), nn.Linear(7, 2)

        def forward(self, images):
            return self.head(self.embed(images.flatten(1, 2))[:, 0])

    classifier = Classifier(Tokens(), SIX, layer='embed')
    classifier.tap(['embed'])
    found = classifier(batch_for(classifier))
    assert found.maps['embed'].shape == (5, 18, 7)
    assert np.allclose(found.features, found.maps['embed'].mean(axis=1), atol=1e-6)


def test_the_head_serves_the_layer_before_its_relu_too():
    classifier = tiny.classifier('fc1')
    found = classifier(batch_for(classifier))
    assert (found.features < 0).any()
    assert np.array_equal(classifier.head.weight, tiny.classifier().head.weight)


def test_the_penultimate_layer_of_a_network_without_a_head_has_to_be_named():
    with pytest.raises(NavMonitorError, match='--layer.*2 fc1'):
        Classifier(Ending(torch.tanh), SIX)
    assert Classifier(Ending(torch.tanh), SIX, layer='fc1').head is None


def test_a_frame_does_not_depend_on_its_batch(tiny_classifier):
    batch = batch_for(tiny_classifier, 6)
    together = tiny_classifier(batch)
    for index in range(6):
        alone = tiny_classifier(batch[index : index + 1])
        assert np.allclose(alone.features[0], together.features[index], atol=1e-5)


def test_dropout_and_batch_norm_are_those_of_evaluation():
    network = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 30), nn.Dropout(0.5), nn.Linear(30, 3)
    ).train()
    classifier = Classifier(network, SIX)
    batch = batch_for(classifier)
    assert np.array_equal(classifier(batch).logits, classifier(batch).logits)
    assert (network[1].running_mean == 0).all()  # running the network does not train it


def test_a_recorded_pass_is_played_for_what_is_wanted_now(monkeypatch):
    """The GPU's path with a recording that is none: what is recorded, and when anew."""
    asked = []

    def recorded(run, shape, _device, _layout):
        asked.append(shape)
        return lambda images: {
            name: tensor.numpy() for name, tensor in run(torch.from_numpy(images)).items()
        }

    monkeypatch.setattr('nav_monitor_ros.perception.network.torch.cuda_graph.recorded', recorded)
    monkeypatch.setattr(
        'nav_monitor_ros.perception.network.torch.classifier.set_precision', lambda *_: None
    )
    on_gpu, plain = tiny.classifier(), tiny.classifier()
    for classifier in (on_gpu, plain):
        classifier.watch(['conv'])
    on_gpu.device = torch.device('cuda')
    one, four = batch_for(on_gpu, 1), batch_for(on_gpu, 4)
    for taps in (['pool'], [], ['pool'], ['conv', 'fc1']):
        for batch in (one, four):
            for classifier in (on_gpu, plain):
                classifier.tap(taps)
            found, expected = on_gpu(batch), plain(batch)
            assert np.array_equal(found.logits, expected.logits)
            assert np.array_equal(found.features, expected.features)
            assert np.array_equal(found.means['conv'], expected.means['conv'])
            assert list(found.maps) == taps
            for name in taps:
                assert np.array_equal(found.maps[name], expected.maps[name])
    shape = on_gpu.input_shape
    assert asked == [(1, *shape), (4, *shape)] * 3  # once for each choice of taps


def test_results_survive_the_next_pass(tiny_classifier):
    first = tiny_classifier(batch_for(tiny_classifier, seed=1))
    kept = first.features.copy(), first.logits.copy()
    tiny_classifier(batch_for(tiny_classifier, seed=2))
    assert np.array_equal(first.features, kept[0]) and np.array_equal(first.logits, kept[1])




def test_taps_give_the_maps_of_the_chosen_layers_only():
    classifier = tiny.classifier()
    assert classifier(batch_for(classifier)).maps == {}
    classifier.tap(['3', 'conv', 'pool'])
    assert classifier.taps == ('pool', 'conv')
    maps = classifier(batch_for(classifier)).maps
    assert {name: array.shape for name, array in maps.items()} == {
        'pool': (5, 5, 6, 6), 'conv': (5, 5, 12, 12)
    }
    classifier.tap(())
    assert classifier(batch_for(classifier)).maps == {}


def test_an_unknown_tap_leaves_the_taps_as_they_were():
    classifier = tiny.classifier()
    classifier.tap(['pool'])
    with pytest.raises(NavMonitorError, match='no layer'):
        classifier.tap(['conv', 'nonsense'])
    assert classifier.taps == ('pool',)
    assert list(classifier(batch_for(classifier)).maps) == ['pool']


def test_a_tap_keeps_what_a_later_operation_in_place_overwrites():
    network = nn.Sequential(nn.Conv2d(3, 4, 6), nn.ReLU(inplace=True), nn.Flatten(),
                            nn.Linear(4, 2))
    classifier = Classifier(network, SIX, layer='0')
    classifier.tap(['0', '1'])
    found = classifier(batch_for(classifier, 20))
    assert (found.maps['0'] < 0).any()
    assert np.array_equal(np.maximum(found.maps['0'], 0), found.maps['1'])
    unit = tiny.unit_of(network[3].weight.detach().numpy())
    assert np.allclose(found.features, unit * found.maps['0'].mean(axis=(2, 3)))


# The device.


class FirstToken(nn.Module):
    """As vision transformers do, classifies by one token of many."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 40), nn.Linear(40, 3)

    def forward(self, images):
        return self.head(self.embed(images.flatten(1, 2))[:, 0])


def test_what_a_pass_yields_keeps_nothing_larger():
    classifier = Classifier(FirstToken(), SIX)
    found = classifier(batch_for(classifier, 64))
    assert found.features.shape == (64, 40)
    for values in (found.features, found.logits):
        assert held_bytes(values) <= 2 * values.nbytes


def test_a_verdict_keeps_its_own_features_alone(tiny_bundle, tiny_classifier):
    seen = tiny_classifier(batch_for(tiny_classifier, 64))
    verdict = tiny_bundle.judge().judge(seen[3:4])
    explained = verdict.explanation
    for values in (explained.values, explained.z, explained.pattern, explained.nearest):
        assert held_bytes(values) <= 8 * len(values)


def test_what_a_recorded_pass_gave_is_kept_apart():
    """The part of a GPU's recorded pass that hands its outputs over, on the CPU's memory."""
    class Graph(CudaGraph):
        def __init__(self):
            self._shapes = {'maps': (1, 64, 56, 56), 'features': (1, 512)}
            sizes = [int(np.prod(shape)) for shape in self._shapes.values()]
            self._back = torch.arange(sum(sizes), dtype=torch.float32)

        def _play(self, images):
            self._back += 1

    graph = Graph()
    first = graph(np.zeros(1, np.float32))
    kept = first['features'].copy()
    assert held_bytes(first['features']) == 512 * 4
    graph(np.zeros(1, np.float32))
    assert np.array_equal(first['features'], kept)
    assert kept[0, 0] == 64 * 56 * 56 + 1


class Branching(nn.Module):
    """Runs its last layers on some images only."""

    def __init__(self, rows=False):
        super().__init__()
        self.rows = rows
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU())
        self.body = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, images):
        usual = images.flatten(1).abs().amax(1) < 20
        features = self.stem(images)
        if self.rows:
            logits = torch.zeros(len(images), 4)
            logits[usual] = self.head(self.body(features[usual]))
            return logits
        if not usual.all():
            return features[:, :4]  # an early exit
        return self.head(self.body(features))


@pytest.mark.parametrize(('layer', 'watch', 'taps'), [
    ('penultimate', (), ()), ('body', (), ()), ('penultimate', ('body',), ()),
    ('penultimate', (), ('body',)),
])
def test_a_layer_that_is_skipped_does_not_repeat_the_values_of_an_earlier_image(
    layer, watch, taps
):
    classifier = Classifier(Branching(), SIX, layer=layer, watch=watch)
    classifier.tap(taps)
    usual = batch_for(classifier, 1)
    before = classifier(usual)
    with pytest.raises(NavMonitorError, match='did not run its layer .* on this image'):
        classifier(100 * usual)
    assert np.array_equal(classifier(usual).logits, before.logits)


def test_a_head_that_ran_on_a_part_of_the_batch_is_refused():
    classifier = Classifier(Branching(rows=True), SIX)
    batch = batch_for(classifier, 4)
    classifier(batch)
    batch[2] *= 100
    with pytest.raises(NavMonitorError, match='logits for 3 of 4 images'):
        classifier(batch)


class Heads(nn.Module):
    """Two heads on one trunk, combined in some way."""

    def __init__(self, combine):
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU())
        self.dark, self.bright = nn.Linear(16, 4), nn.Linear(16, 4)
        self.combine = combine

    def forward(self, images):
        features = self.stem(images)
        is_bright = (images.mean((1, 2, 3)) > 5)[:, None]
        return self.combine(self.bright(features), self.dark(features), is_bright)


def test_a_head_that_is_selected_for_some_images_only_is_noticed_on_these():
    classifier = Classifier(Heads(lambda one, other, use: torch.where(use, one, other)), SIX)
    batch = batch_for(classifier, 4)
    classifier(batch)
    batch[1] += 20
    with pytest.raises(NavMonitorError, match='does not come from its layer dark'):
        classifier(batch)


@pytest.mark.parametrize('ending', [
    lambda x: x, lambda x: x.clamp(-0.3, 0.3), lambda x: 2 * x, lambda x: 3 * torch.tanh(x / 3),
    lambda x: x.softmax(1), lambda x: (x / 4).log_softmax(1), torch.sigmoid,
], ids=['plain', 'clamp', 'factor', 'soft cap', 'softmax', 'log-softmax', 'sigmoid'])
@pytest.mark.parametrize('size', [0.01, 1.0, 300.0])
def test_what_keeps_the_order_of_the_classes_is_no_other_head(ending, size):
    torch.manual_seed(0)
    classifier = Classifier(Heads(lambda one, other, use: ending(other)), SIX, layer='stem')
    batch = size * batch_for(classifier, 32)
    assert classifier(batch).logits.shape == (32, 4)


class Cosine(nn.Linear):
    """A cosine head, written as a subclass of the linear layer."""

    def forward(self, features):
        return nn.functional.linear(
            20 * nn.functional.normalize(features), nn.functional.normalize(self.weight), self.bias)


def with_head(head):
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), head)


def test_a_linear_layer_that_computes_something_else_is_no_head():
    with pytest.raises(NavMonitorError, match=r'its layer 3, a Cosine, computes something else'):
        Classifier(with_head(Cosine(16, 4)), SIX)
    classifier = Classifier(with_head(Cosine(16, 4)), SIX, layer='2')
    assert classifier.head is None


class Renamed(nn.Linear):
    """A subclass that computes what the linear layer does."""


@pytest.mark.parametrize('head', [
    Renamed(16, 4), nn.utils.parametrizations.weight_norm(nn.Linear(16, 4, bias=False)),
    nn.Linear(16, 4),
], ids=['subclass', 'weight norm', 'linear'])
def test_linear_layers_of_any_kind_are_heads(head):
    classifier = Classifier(with_head(head), SIX)
    found = classifier(batch_for(classifier))
    expected = found.features @ classifier.head.weight.T + classifier.head.bias
    assert np.allclose(found.logits, expected, atol=1e-4)


def test_a_single_output_is_refused():
    with pytest.raises(NavMonitorError, match='a single output.*let it return two'):
        Classifier(with_head(nn.Linear(16, 1)), SIX)


@pytest.mark.parametrize(('wrap', 'said'), [
    (torch.jit.script, 'cannot be observed.*eager module'),
    (lambda net: torch.jit.trace(net, torch.rand(1, 3, 6, 6)), 'eager module'),
])
def test_torchscript_is_refused_in_one_line(wrap, said):
    with pytest.raises(NavMonitorError, match=said) as caught:
        Classifier(wrap(with_head(nn.Linear(16, 4)).eval()), SIX)
    assert '\n' not in str(caught.value)


def test_probing_does_not_keep_the_maps_of_all_layers(monkeypatch):
    kept = []
    plain = torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, 'clone', lambda self, **named: (
        kept.append(self.nbytes), plain(self, **named))[1])
    wide = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))
    probe_structure(wide.eval(), (3, 32, 32))
    assert sum(kept) < 2 * 64 * 32 * 32 * 4  # less than the maps of one layer
