"""The monitor that node and replay build from the node's parameters."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

import nav_monitor_ros
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.runtime.monitor import Monitor, build_monitor
from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS, check_all

PACKAGE = Path(nav_monitor_ros.__file__).parent


def test_the_parameters_say_how_the_monitor_judges(tiny_folder):
    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    values.update(
        bundle=str(tiny_folder), trusted_packages=['', 'tiny'], device='cpu', torch_threads=1,
        score='pattern', extra_scores=['', 'energy'], top_k=2,
    )
    monitor = build_monitor(check_all(values))
    assert monitor.bundle.name == 'tiny'
    assert set(monitor.judge.score_names) == {'pattern', 'energy'}
    assert str(monitor.classifier.device) == 'cpu'


@pytest.mark.parametrize('size', [(32, 32), (32, 64), (64, 64)])
@pytest.mark.parametrize('options', [
    {'fit': 'stretch'}, {'fit': 'letterbox'}, {'fit': 'center_crop'},
    {'fit': 'center_crop', 'resize_to': 64},
], ids=str)
def test_warming_up_resizes_whatever_the_network_takes(
    tiny_bundle, monkeypatch, size, options
):
    # What resizes is imported when it is used first: torch takes seconds, an image has one.
    monitor = Monitor(tiny_bundle, device='cpu', trusted_packages=['tiny'])
    resizes = []
    scaled = Preprocess._scaled
    monkeypatch.setattr(Preprocess, '_scaled', lambda self, image, rows, columns: (
        resizes.append(image.shape[:2] != (rows, columns)) or scaled(self, image, rows, columns)))
    monkeypatch.setattr(monitor, 'observe_images', lambda images: [
        Preprocess(*size, **options).resized(image.pixels, image.order) for image in images])
    monitor.bundle = dataclasses.replace(
        monitor.bundle, preprocess=Preprocess(*size, **options))
    monitor.warm_up(2)
    assert resizes == [True] * 3


def test_node_and_replay_build_their_monitor_by_one_function():
    callers = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'Monitor'
    }
    measured = {path for path in callers if path.startswith('benchmark/')}
    assert callers - measured == {'runtime/monitor.py'}
