"""What torchvision's weights require, held against the functions that build their networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import regnet
from torchvision.models._api import WeightsEnum

from nav_monitor_ros.perception.network.torch.distributed_weights import (
    distributed_weights,
    unrecorded_arguments,
)

pytestmark = pytest.mark.once

NAMES = models.list_models(module=models)


def kind(name):
    """Return what networks that a test need not repeat have in common."""
    weights = models.get_model_weights(name)
    return type(weights.DEFAULT).__module__, tuple(one.name for one in weights)


def smallest_of_each_kind():
    found = {}
    for name in sorted(NAMES, key=lambda n: models.get_model_weights(n).DEFAULT.meta['num_params']):
        found.setdefault(kind(name), name)
    return sorted(found.values())


@pytest.fixture
def without_values(monkeypatch):
    """Let networks be built without memory, and weights be loaded without downloads."""
    widths = regnet.BlockParams.from_init_params.__func__

    def on_cpu(cls, *arguments, **options):
        with torch.device('cpu'):
            return widths(cls, *arguments, **options)

    monkeypatch.setattr(regnet.BlockParams, 'from_init_params', classmethod(on_cpu))
    monkeypatch.setattr(WeightsEnum, 'get_state_dict', lambda *_, **__: {})
    monkeypatch.setattr(nn.Module, 'load_state_dict', lambda *_, **__: None)
    with torch.device('meta'):
        yield


def settings(network):
    """Return every plain attribute of a network's modules, and the shapes of its weights."""
    found = {
        f'{name}.{key}': value for name, module in network.named_modules()
        for key, value in vars(module).items() if isinstance(value, (bool, int, float, str, tuple))
    }
    kinds = {name: type(module) for name, module in network.named_modules()}
    return found, kinds, shapes(network)


def shapes(network):
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@pytest.mark.usefixtures('without_values')
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', smallest_of_each_kind())
def test_with_its_arguments_a_network_is_the_one_of_the_weights(name):
    listed = distributed_weights(name)
    assert {one.name for one in listed} == {one.name for one in models.get_model_weights(name)}
    for weights in listed:
        theirs = models.get_model(name, weights=weights.name)
        assert settings(models.get_model(name, **weights.arguments)) == settings(theirs)
        recorded = {key: value for key, value in weights.arguments.items()
                    if key not in unrecorded_arguments(name)}
        with_recorded = models.get_model(name, **recorded)
        assert shapes(with_recorded) == shapes(theirs)
        assert (settings(with_recorded) == settings(theirs)) == (not unrecorded_arguments(name))


def test_the_default_weights_come_first():
    names = [weights.name for weights in distributed_weights('resnet50')]
    assert names == ['IMAGENET1K_V2', 'IMAGENET1K_V1']


@pytest.mark.parametrize('name', ['resnet19', 'fasterrcnn_resnet50_fpn', 'raft_small', ''])
def test_other_names_have_none(name):
    assert distributed_weights(name) == () and unrecorded_arguments(name) == {}
