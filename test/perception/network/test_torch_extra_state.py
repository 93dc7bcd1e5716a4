"""Extra state of modules, which weight files of tensors cannot hold: ignored, and said."""

from __future__ import annotations

import logging
import sys
import types

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.specification import NetworkSpec, load_weights
from nav_monitor_ros.perception.network.torch.weights import load_exactly

pytestmark = pytest.mark.once

SHAPE = (3, tiny.SIDE, tiny.SIDE)


class Scaled(nn.Module):
    """A layer whose scale is a number, not a tensor, next to a counter without any effect."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale, self.steps = scale, 0

    def forward(self, values):
        return values * self.scale

    def get_extra_state(self):
        return {'scale': self.scale, 'steps': [self.steps], 'table': torch.arange(3)}

    def set_extra_state(self, state):
        self.scale, (self.steps,) = state['scale'], state['steps']


class Bars(tiny.Bars):
    """The tiny network with such a layer before its head."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scaled = Scaled(scale)

    def forward(self, images):
        maps = self.pool(self.relu1(self.conv(images)))
        return self.fc2(self.scaled(self.relu2(self.fc1(self.flatten(maps)))))


class Offset(nn.Module):
    """A network whose extra state is a tensor, which a weight file can hold."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.fc, self.offset = nn.Linear(4, 3), torch.tensor([offset])

    def forward(self, values):
        return self.fc(values) + self.offset

    def get_extra_state(self):
        return self.offset

    def set_extra_state(self, state):
        self.offset = state


def trained(scale=1.0, steps=0):
    network = Bars(scale)
    network.load_state_dict(tiny.network().state_dict(), strict=False)
    network.scaled.steps = steps
    return network.eval()


@pytest.fixture
def package(monkeypatch):
    """Provide a package with the network."""
    module = types.ModuleType('scaled')
    module.Bars = Bars
    monkeypatch.setitem(sys.modules, 'scaled', module)
    return module


def loaded(path, state, caplog, shape=SHAPE, network=None):
    """Load a file into a network; return it with the notes."""
    torch.save(state, path)
    network = Bars().eval() if network is None else network
    with caplog.at_level(logging.WARNING):
        load_weights(network, path, shape)
    assert all(record.getMessage().isprintable() for record in caplog.records)
    return network, caplog.text


def wrapped(state, prefix):
    return {f'{prefix}{name}': value for name, value in state.items()}


@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: wrapped(state, 'module._orig_mod.'),
    lambda state: {'state_dict': wrapped(state, 'model.'), 'epoch': 3},
], ids=['plain', 'compiled', 'lightning'])
@pytest.mark.parametrize(('steps', 'said'), [
    (0, 'that of the network as built is the same'),
    (7, 'the outputs for images of noise do not depend on it'),
])
def test_extra_state_without_any_effect_is_ignored_with_a_note(
    tmp_path, caplog, wrap, steps, said
):
    state = trained(steps=steps).state_dict()
    assert state['scaled._extra_state']['steps'] == [steps]
    network, notes = loaded(tmp_path / 'w.pth', wrap(state), caplog)
    assert 'extra state is not stored in bundles and was ignored (scaled._extra_state)' in notes
    assert said in notes
    assert torch.equal(network.fc2.weight, trained().fc2.weight) and network.scaled.steps == 0


def test_a_network_that_is_wrapped_itself_finds_its_extra_state(tmp_path, caplog):
    spread = nn.DataParallel(Bars().eval())
    _, notes = loaded(tmp_path / 'w.pth', trained().state_dict(), caplog, network=spread)
    assert '(module.scaled._extra_state); that of the network as built is the same' in notes


def test_extra_state_that_changes_the_outputs_is_refused(tmp_path, caplog):
    with pytest.raises(NavMonitorError, match=r'w\.pth.*depend on.*scaled.*--model-arg.*buffer'):
        loaded(tmp_path / 'w.pth', trained(scale=2.0).state_dict(), caplog)
    _, notes = loaded(
        tmp_path / 'w.pth', trained(2.0, steps=3).state_dict(), caplog, network=Bars(2.0).eval())
    assert 'do not depend on it' in notes


def test_what_cannot_be_compared_is_said(tmp_path, caplog):
    state = trained(scale=2.0).state_dict()
    network, notes = loaded(tmp_path / 'w.pth', state, caplog, shape=None)
    assert 'differs from that of the network as built' in notes and network.scaled.scale == 1
    state['scaled._extra_state'] = 'of another version'
    _, notes = loaded(tmp_path / 'w.pth', state, caplog)
    assert 'differs from that of the network as built: if the outputs depend on it' in notes


def test_a_file_without_extra_state_or_a_network_without_it_is_no_misfit(tmp_path, caplog):
    network = Bars().eval()
    save_file(tiny.network().state_dict(), tmp_path / 'w.safetensors')
    with caplog.at_level(logging.WARNING):
        load_weights(network, tmp_path / 'w.safetensors', SHAPE)
    assert '(scaled._extra_state); the network keeps that with which it is built' in caplog.text
    caplog.clear()
    for extra in ({'steps': 3}, torch.ones(5)):
        state = {**tiny.network().state_dict(), 'fc1._extra_state': extra}
        _, notes = loaded(tmp_path / 'w.pth', state, caplog, network=tiny.Bars().eval())
        assert 'was ignored (fc1._extra_state)' in notes and 'unexpected' not in notes
    load_exactly(tiny.Bars(), {**tiny.network().state_dict(), '_extra_state': torch.ones(5)},
                 tmp_path / 'w.pth')


def test_extra_state_that_is_a_tensor_is_loaded_and_stored(tmp_path, caplog):
    network, notes = loaded(tmp_path / 'w.pth', Offset(3.0).state_dict(), caplog,
                            network=Offset().eval())
    assert network.offset.item() == 3 and not notes
    other = Offset()
    load_exactly(other, network.state_dict(), tmp_path / 'w.pth')
    assert other.offset.item() == 3


def test_extra_state_of_python_objects_is_refused_with_the_remedy(tmp_path, caplog):
    state = {**trained().state_dict(), 'scaled._extra_state': Scaled()}
    with pytest.raises(NavMonitorError, match=r'extra state of modules.*torch\.is_tensor\(value'):
        loaded(tmp_path / 'w.pth', state, caplog)


@pytest.mark.usefixtures('package')
def test_a_bundle_of_such_a_network_is_saved_and_loaded(tmp_path, caplog):
    torch.save(trained(2.0, steps=9).state_dict(), tmp_path / 'w.pth')
    spec = NetworkSpec('scaled:Bars', {'scale': 2.0})
    running = start_network(spec, tmp_path / 'w.pth', tiny.PREPROCESS, device='cpu')
    assert 'was ignored (scaled._extra_state)' in caplog.text
    caplog.clear()
    save_bundle(tiny.fitted(running, spec), running, tmp_path / 'bundle', card='')
    stored = load_file(tmp_path / 'bundle/model.safetensors')
    assert stored.keys() == tiny.network().state_dict().keys()
    bundle = load_bundle(tmp_path / 'bundle')
    again = load_network(bundle, device='cpu', trusted_packages=['scaled'])
    batch = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    assert np.array_equal(again(batch).logits, running(batch).logits)
    assert not caplog.records
    # As the views of gradients do it.
    other = spec.build(['scaled'])
    other.load_state_dict(running.network.state_dict())
    assert torch.equal(other.fc2.weight, running.network.fc2.weight)
