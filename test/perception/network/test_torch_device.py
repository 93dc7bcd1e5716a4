"""The device that torch computes on."""

from __future__ import annotations

import logging

import pytest
import torch

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.torch.device import select_device


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
