"""Files of weights: read as tensors only, found however training saved them, or refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.specification import load_weights
from nav_monitor_ros.perception.network.torch.weight_files import write_weights
from nav_monitor_ros.perception.network.torch.weights import load_exactly


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


class Twice(nn.Module):
    """A network that holds a part under two names, and shares a parameter."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 3)
        self.features = nn.Sequential(self.conv, nn.ReLU())
        self.tied = nn.Linear(5, 3)
        self.tied.weight = self.fc.weight
        self.register_buffer('part', self.fc.weight.detach()[1:])


def test_parts_under_two_names_are_written_under_both(tmp_path):
    network, path = Twice(), tmp_path / 'weights.safetensors'
    write_weights(network.state_dict(), path)
    read = load_file(path)
    assert set(read) == set(network.state_dict())
    assert all(torch.equal(read[name], own) for name, own in network.state_dict().items())
    other = Twice()
    load_exactly(other, read, path)
    assert torch.equal(other.conv.weight, network.conv.weight)
