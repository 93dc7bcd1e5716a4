"""Weights as training scripts leave them: wrapped, prefixed, averaged, old; loaded or refused."""

from __future__ import annotations

import argparse
import copy
import logging

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.specification import load_weights
from nav_monitor_ros.perception.network.torch.weights import load_exactly

pytestmark = pytest.mark.once


class Normed(nn.Module):
    """A network with batch norm and a block of its own."""

    def __init__(self, seed=0, classes=4):
        super().__init__()
        torch.manual_seed(seed)
        self.block = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.fc = nn.Linear(6, classes)
        self.block[1].running_mean.uniform_()

    def forward(self, images):
        return self.fc(self.block(images).mean((2, 3)))


def prefixed(prefix, state):
    return {f'{prefix}{name}': tensor for name, tensor in state.items()}


def without_counters(state):
    return {n: t for n, t in state.items() if not n.endswith('num_batches_tracked')}


def compiled_block(state):
    return {name.replace('block.', 'block._orig_mod.'): t for name, t in state.items()}


LIGHTNING = {'epoch': 3, 'global_step': 90, 'pytorch-lightning_version': '2.4.0',
             'optimizer_states': [{'state': {0: {'exp_avg': torch.zeros(3)}}}]}
WRAPPED = {
    'torch.compile': lambda s: prefixed('_orig_mod.', s),
    'compiled and data-parallel': lambda s: prefixed('module._orig_mod.', s),
    'data-parallel and compiled': lambda s: prefixed('_orig_mod.module.', s),
    'Lightning': lambda s: {**LIGHTNING, 'state_dict': prefixed('model.', s)},
    'Lightning, compiled': lambda s: {**LIGHTNING, 'state_dict': prefixed('model._orig_mod.', s)},
    'Lightning with a loss': lambda s: {
        'state_dict': {**prefixed('net.', s), 'criterion.weight': torch.ones(4)}
    },
    'any attribute': lambda s: {'state_dict': prefixed('classifier.backbone.', s)},
    'net': lambda s: {'net': s, 'acc': 91.2, 'epoch': 7},
    'net, data-parallel': lambda s: {'net': prefixed('module.', s), 'acc': 91.2},
    'network': lambda s: {'network': s},
    'weights deep inside': lambda s: {'checkpoint': {'student': {'weights': s}}},
    'only an average': lambda s: {'ema': s},
    'swa_utils': lambda s: {'n_averaged': torch.tensor(5), **prefixed('module.', s)},
    'one block compiled': compiled_block,
    'one block compiled, in Lightning': lambda s: {'state_dict': prefixed('m.', compiled_block(s))},
    'before torch 0.4.1': without_counters,
    'before torch 0.4.1, data-parallel': lambda s: prefixed('module.', without_counters(s)),
    'with its command line': lambda s: {'model': s, 'args': argparse.Namespace(lr=0.1)},
    'half precision': lambda s: {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in s.items()
    },
}


@pytest.mark.parametrize('how', WRAPPED)
@pytest.mark.parametrize('suffix', ['.pth', '.ckpt'])
def test_wrapped_weights_load(tmp_path, how, suffix):
    trained, network = Normed(seed=1).eval(), Normed(seed=2).eval()
    path = tmp_path / f'weights{suffix}'
    torch.save(WRAPPED[how](trained.state_dict()), path)
    images = torch.rand(2, 3, 8, 8)
    assert not torch.allclose(network(images), trained(images), atol=1e-2)
    load_weights(network, path)
    assert torch.allclose(network(images), trained(images), atol=1e-2 if 'half' in how else 0)


def test_wrapped_weights_load_from_safetensors(tmp_path):
    trained, network = Normed(seed=1), Normed(seed=2)
    save_file(prefixed('model._orig_mod.', trained.state_dict()), tmp_path / 'w.safetensors')
    load_weights(network, tmp_path / 'w.safetensors')
    assert torch.equal(network.fc.weight, trained.fc.weight)


def test_plain_weights_load_into_a_network_that_its_maker_compiles_or_spreads(tmp_path):
    trained = Normed(seed=1)
    torch.save(trained.state_dict(), tmp_path / 'w.pth')
    spread, compiled = nn.DataParallel(Normed(seed=2)), torch.compile(Normed(seed=2))
    for network in (spread, compiled):
        load_weights(network, tmp_path / 'w.pth')
    assert torch.equal(spread.module.fc.weight, trained.fc.weight)
    assert torch.equal(compiled._orig_mod.fc.weight, trained.fc.weight)


def test_a_network_with_a_part_called_model_or_module_keeps_its_names(tmp_path, caplog):
    class Outer(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.model, self.module = Normed(seed), Normed(seed + 1)

    trained, network = Outer(1), Outer(5)
    torch.save(trained.state_dict(), tmp_path / 'w.pth')
    load_weights(network, tmp_path / 'w.pth')
    assert torch.equal(network.model.fc.weight, trained.model.fc.weight)
    assert torch.equal(network.module.fc.weight, trained.module.fc.weight)
    assert not caplog.records


@pytest.mark.parametrize(('how', 'said'), [
    ('Lightning', ["prefix 'model.'"]),
    ('compiled and data-parallel', ["prefix 'module._orig_mod.'"]),
    ('Lightning with a loss', ["prefix 'net.'", 'left out', 'criterion.weight']),
    ('before torch 0.4.1', ['1 batch-norm counters num_batches_tracked']),
    ('one block compiled', ['_orig_mod in the names']),
    ('swa_utils', ["prefix 'module.'", 'n_averaged']),
])
def test_what_was_stripped_is_said(tmp_path, caplog, how, said):
    torch.save(WRAPPED[how](Normed(seed=1).state_dict()), tmp_path / 'w.pth')
    with caplog.at_level(logging.WARNING):
        load_weights(Normed(), tmp_path / 'w.pth')
    assert all(text in caplog.text and 'w.pth' in caplog.text for text in said)


def test_weights_as_the_network_has_them_are_loaded_without_a_word(tmp_path, caplog):
    torch.save({'state_dict': Normed(seed=1).state_dict(), 'epoch': 3}, tmp_path / 'w.pth')
    load_weights(Normed(), tmp_path / 'w.pth')
    assert not caplog.records


def test_the_network_itself_is_taken_where_its_average_is_in_the_file_too(tmp_path, caplog):
    trained, average, network = Normed(seed=1), Normed(seed=2), Normed(seed=3)
    torch.save({'state_dict_ema': average.state_dict(), 'state_dict': trained.state_dict()},
               tmp_path / 'w.pth')
    load_weights(network, tmp_path / 'w.pth')
    assert torch.equal(network.fc.weight, trained.fc.weight)
    assert 'others are at state_dict_ema' in caplog.text


def test_two_networks_of_which_none_is_named_as_usual_are_refused(tmp_path):
    state = {**prefixed('student.', Normed(seed=1).state_dict()),
             **prefixed('teacher.', Normed(seed=2).state_dict())}
    torch.save(state, tmp_path / 'w.pth')
    network = Normed(seed=3)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(NavMonitorError, match=r'student, teacher.*state_dict of the one'):
        load_weights(network, tmp_path / 'w.pth')
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_the_same_weights_twice_are_no_question(tmp_path):
    state = Normed(seed=1).state_dict()
    torch.save({'best': state, 'last': copy.deepcopy(state)}, tmp_path / 'w.pth')
    network = Normed()
    load_weights(network, tmp_path / 'w.pth')
    assert torch.equal(network.fc.weight, state['fc.weight'])


@pytest.mark.parametrize(('spoil', 'said'), [
    (lambda s: {n: t for n, t in s.items() if n != 'model.fc.bias'}, r'missing fc\.bias'),
    (lambda s: {**s, 'model.head.bias': torch.ones(4)}, r'unexpected model\.head\.bias'),
    (lambda s: {n: t for n, t in s.items() if not n.endswith('running_mean')}, 'running_mean'),
    (lambda s: {**s, 'model.fc.weight': torch.ones(9, 6)}, r'\(9, 6\) in the file'),
    (lambda s: {**s, 'model.fc.weight': torch.ones(4, 6, dtype=torch.int8)}, 'int8.*quantised'),
    (lambda s: {**s, 'model.fc.weight': torch.ones(4, 6).to_sparse()}, r'fc\.weight is sparse'),
    (lambda s: {**s, 'model.fc.weight': torch.ones(4, 6).to_sparse_csr()}, r'fc\.weight is sparse'),
    (lambda s: {**s, 'model.fc.weight': torch.ones(4, 6, device='meta')}, r'fc\.weight has no val'),
    (lambda s: {**s, 'model.fc.weight': torch.ones(4, 6) * 1j}, r'fc\.weight holds complex num'),
    (lambda s: {**s, 'model.fc.weight': torch.full((4, 6), np.nan)}, r'fc\.weight holds 24 values'),
    (lambda s: {**s, 'model.fc.bias': torch.tensor([0, np.inf, 0, 0])}, r'fc\.bias holds 1 values'),
    (lambda s: {**s, 'model.fc.bias': torch.full((4,), 1e300, dtype=torch.float64)},
     r'fc\.bias holds 4 values that are not finite in float32'),
])
def test_what_does_not_fit_exactly_under_a_prefix_is_refused(tmp_path, spoil, said):
    torch.save({'state_dict': spoil(prefixed('model.', Normed(seed=1).state_dict()))},
               tmp_path / 'w.ckpt')
    network = Normed(seed=2)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(NavMonitorError, match=said) as caught:
        load_weights(network, tmp_path / 'w.ckpt')
    assert '\n' not in str(caught.value)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_a_mask_of_infinities_that_the_network_is_built_with_is_loaded(tmp_path):
    def masked():
        network = Normed(seed=1)
        network.register_buffer('mask', torch.triu(torch.full((3, 3), -np.inf), 1))
        return network

    torch.save(masked().state_dict(), tmp_path / 'w.pth')
    load_weights(masked(), tmp_path / 'w.pth')


@pytest.mark.parametrize('name', ['resnet18', 'densenet121', 'vit_b_16', 'googlenet', 'mnasnet0_5'])
def test_networks_of_torchvision_load_from_a_lightning_checkpoint(tmp_path, name):
    torch.manual_seed(0)
    options = {'num_classes': 3, **({'init_weights': False} if name == 'googlenet' else {})}
    trained = torchvision.models.get_model(name, weights=None, **options).eval()
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    torch.save({'state_dict': without_counters(prefixed('model.', trained.state_dict()))},
               tmp_path / 'w.ckpt')
    load_weights(network, tmp_path / 'w.ckpt')
    exact = torchvision.models.get_model(name, weights=None, **options)
    load_exactly(exact, dict(trained.state_dict()), tmp_path / 'w.ckpt')
    for loaded in (network, exact):
        assert all(
            np.array_equal(t.numpy(), trained.state_dict()[name].numpy())
            for name, t in loaded.state_dict().items()
        )


class Lazy(nn.Module):
    """A network that takes a layer's shape from its first input, or from its weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.LazyLinear(4)

    def forward(self, images):
        return self.fc(self.conv(images).mean((2, 3)))


def test_layers_take_their_shape_from_the_weights(tmp_path):
    network, path = Lazy(), tmp_path / 'weights.pth'
    network(torch.zeros(1, 3, 8, 8))
    torch.save(network.state_dict(), path)
    other = Lazy()
    load_weights(other, path)
    assert torch.equal(other.fc.weight, network.fc.weight)
    exact = Lazy()
    load_exactly(exact, network.state_dict(), path)
    assert torch.equal(exact.fc.weight, network.fc.weight)
    spoiled = network.state_dict()
    spoiled['fc.weight'] = torch.full((4, 6), torch.nan)
    torch.save(spoiled, path)
    with pytest.raises(NavMonitorError, match='not finite'):
        load_weights(Lazy(), path)
