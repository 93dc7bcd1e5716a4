"""Networks: built from their names, without foreign code; dissected; run; tapped."""

from __future__ import annotations

import functools
import logging
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.layers import find_layer
from nav_monitor_ros.perception.network.specification import NetworkSpec, load_weights
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.network.torch.cuda_graph import CudaGraph
from nav_monitor_ros.perception.network.torch.device import select_device
from nav_monitor_ros.perception.network.torch.structure import probe_structure
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.runtime.incident_frames import held_bytes

SIX = Preprocess(6, 6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def batch_for(classifier, count=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *classifier.input_shape)).astype(np.float32)


class Ending(nn.Module):
    """A network of two layers that ends as the test wants it."""

    def __init__(self, end, bias=True):
        super().__init__()
        torch.manual_seed(1)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(108, 10)
        self.fc2 = nn.Linear(10, 4, bias=bias)
        self.end = end

    def forward(self, images):
        return self.end(self.fc2(self.fc1(self.flatten(images)).tanh()))


# Building.


@pytest.fixture
def foreign(monkeypatch):
    """Provide a package with all sorts of factories."""
    module = types.ModuleType('foreign')
    module.Bars = tiny.Bars
    module.Family = type('Family', (), {'small': staticmethod(lambda: tiny.Bars(width=3))})
    module.number = 3
    module.text = lambda: 'a text'
    module.broken = functools.partial(int, 'a\nb')
    monkeypatch.setitem(sys.modules, 'foreign', module)


@pytest.mark.usefixtures('foreign')
def test_a_trusted_factory_is_called_with_its_arguments():
    network = NetworkSpec('foreign:Bars', {'classes': 7}).build(['foreign'])
    assert network.fc2.out_features == 7
    assert not network.training


@pytest.mark.usefixtures('foreign')
def test_a_factory_may_be_a_method_of_a_class():
    assert NetworkSpec('foreign:Family.small').build(['foreign']).fc1.out_features == 3


def test_torchvision_and_the_packages_own_networks_need_no_trust():
    network = NetworkSpec('torchvision:squeezenet1_1', {'num_classes': 3}).build()
    assert network.num_classes == 3
    assert NetworkSpec('nav_monitor_ros.perception.reference_networks:DigitsNet').build()


def test_code_of_an_untrusted_package_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / 'evil_package.py').write_text('raise SystemExit("ran")\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NavMonitorError, match='--trust evil_package'):
        NetworkSpec('evil_package:make').build(['evil', 'evil_package.make'])
    assert 'evil_package' not in sys.modules


@pytest.mark.usefixtures('foreign')
@pytest.mark.parametrize(
    ('spec', 'said'),
    [
        ('resnet18', 'package.module:factory'),
        (':Bars', 'package.module:factory'),
        ('foreign:', 'package.module:factory'),
        ('foreign:Missing', "'foreign' has no 'Missing'"),
        ('foreign:Family.large', "has no 'Family.large'"),
        ('foreign:number', 'cannot be called'),
        ('foreign:text', 'returned a str'),
        ('foreign:broken', 'failed'),
        ('foreign.part:Bars', 'cannot be imported'),
        ('torchvision:resnet19', "no network 'resnet19'"),
    ],
)
def test_a_bad_specification_is_refused_in_one_line(spec, said):
    with pytest.raises(NavMonitorError, match=said) as caught:
        NetworkSpec(spec).build(['foreign'])
    assert '\n' not in str(caught.value)


@pytest.mark.usefixtures('foreign')
def test_arguments_that_the_factory_lacks_are_named():
    with pytest.raises(NavMonitorError, match='depth=5'):
        NetworkSpec('foreign:Bars', {'depth': 5}).build(['foreign'])


# Weights.


def equal(network, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: {'state_dict': state, 'epoch': 3},
        lambda state: {'model': state},
        lambda state: {'model_state_dict': state},
        lambda state: {f'module.{name}': tensor for name, tensor in state.items()},
        lambda state: {'state_dict': {f'module.{n}': tensor for n, tensor in state.items()}},
    ],
)
@pytest.mark.parametrize('suffix', ['.pt', '.pth', '.th'])
def test_weights_are_found_however_training_saved_them(tmp_path, wrap, suffix):
    state = tiny.network().state_dict()
    torch.save(wrap(state), tmp_path / f'weights{suffix}')
    network = tiny.Bars()
    assert not equal(network, state)
    load_weights(network, tmp_path / f'weights{suffix}')
    assert equal(network, state)


def test_safetensors_are_read(tmp_path):
    state = tiny.network().state_dict()
    save_file(state, tmp_path / 'weights.safetensors')
    network = tiny.Bars()
    load_weights(network, tmp_path / 'weights.safetensors')
    assert equal(network, state)


class Bomb:
    """Creates a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_weights_is_not_run(tmp_path):
    mark = tmp_path / 'ran'
    weights = tmp_path / 'weights.pth'
    torch.save({'fc1.weight': Bomb(mark)}, weights)
    with pytest.raises(NavMonitorError, match='code in them is not run'):
        load_weights(tiny.Bars(), weights)
    assert not mark.exists()
    torch.load(weights, weights_only=False)  # the bomb itself works
    assert mark.exists()


def write_garbage(path):
    path.write_bytes(b'\x80garbage' * 40)


def write_whole_network(path):
    torch.save(tiny.network(), path)


def write_numbers(path):
    torch.save({'fc1.weight': 3}, path)


def write_list(path):
    torch.save([torch.zeros(3)], path)


def write_plain_pickle(path):
    path.write_bytes(pickle.dumps({'fc1.weight': 3}))


@pytest.mark.parametrize(
    'write', [write_garbage, write_whole_network, write_numbers, write_list, write_plain_pickle]
)
def test_files_without_a_state_dict_are_refused_in_one_line(tmp_path, write):
    write(tmp_path / 'weights.pth')
    with pytest.raises(NavMonitorError, match=r'weights\.pth.*state.?dict') as caught:
        load_weights(tiny.Bars(), tmp_path / 'weights.pth')
    assert '\n' not in str(caught.value)


def test_missing_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(NavMonitorError, match='do not exist'):
        load_weights(tiny.Bars(), tmp_path / 'none.pth')
    (tmp_path / 'weights.h5').write_bytes(b'')
    with pytest.raises(NavMonitorError, match=r'not \.safetensors'):
        load_weights(tiny.Bars(), tmp_path / 'weights.h5')
    (tmp_path / 'weights.safetensors').write_bytes(b'\xff' * 100)
    with pytest.raises(NavMonitorError, match='not a safetensors file'):
        load_weights(tiny.Bars(), tmp_path / 'weights.safetensors')


def test_weights_of_another_network_are_refused_and_nothing_is_loaded(tmp_path):
    other = dict(tiny.network().state_dict())
    other['fc3.weight'] = other.pop('fc2.weight')
    save_file(other, tmp_path / 'names.safetensors')
    network = tiny.Bars()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(NavMonitorError, match=r'missing fc2\.weight; unexpected fc3\.weight'):
        load_weights(network, tmp_path / 'names.safetensors')
    save_file(tiny.Bars(classes=5).state_dict(), tmp_path / 'shapes.safetensors')
    with pytest.raises(NavMonitorError, match=r'\(5,.*\(3,.*number of classes'):
        load_weights(network, tmp_path / 'shapes.safetensors')
    assert equal(network, before)


# Layers.


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
    listed = 'penultimate, 1 conv, 2 relu1, 3 pool, 4 flatten, 5 fc1, 6 relu2, 7 fc2'
    assert str(caught.value).endswith(listed)


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
    with pytest.raises(NavMonitorError, match='check the preprocessing') as caught:
        probe_structure(tiny.network(), shape)
    assert str(shape) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'network',
    [nn.Conv2d(3, 2, 3), nn.Sequential(nn.Flatten(0)), nn.LSTM(6, 2), Ending(lambda x: (x, x))],
)
def test_a_network_without_class_scores_is_refused(network):
    with pytest.raises(NavMonitorError, match=r'scores|cannot take'):
        probe_structure(network.eval(), (3, 6, 6))


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
    monkeypatch.setattr(Classifier, '_set_precision', lambda self: None)
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


# Taps.


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
    assert np.allclose(found.features, found.maps['0'].mean(axis=(2, 3)))


# The device.


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)


@pytest.mark.usefixtures('no_cuda')
@pytest.mark.parametrize('name', ['cuda', 'cuda:0', 'cuda:7'])
def test_a_missing_cuda_device_falls_back_to_the_cpu_with_one_warning(name, caplog):
    with caplog.at_level(logging.INFO):
        assert select_device(name) == torch.device('cpu')
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert name in caplog.text


@pytest.mark.usefixtures('no_cuda')
@pytest.mark.parametrize('name', ['auto', 'cpu'])
def test_the_choice_of_a_device_is_logged(name, caplog):
    with caplog.at_level(logging.INFO):
        assert select_device(name) == torch.device('cpu')
    assert [record.levelname for record in caplog.records] == ['INFO']


def test_auto_takes_the_first_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert select_device('auto') == torch.device('cuda', 0)
    assert select_device('cuda:1') == torch.device('cuda', 1)
    assert select_device('cuda:2') == torch.device('cpu')
    assert select_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['gpu', 'cuda:', 'cuda:x', 'cpu:0', '', 'CUDA', 'cuda:-1'])
def test_other_devices_are_refused(name):
    with pytest.raises(NavMonitorError, match='device'):
        select_device(name)


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
