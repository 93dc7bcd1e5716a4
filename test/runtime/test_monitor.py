"""The monitor that node and replay build from the node's parameters."""

from __future__ import annotations

import ast
from pathlib import Path

import nav_monitor_ros
from nav_monitor_ros.runtime.monitor import build_monitor
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


def test_node_and_replay_build_their_monitor_by_one_function():
    callers = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'Monitor'
    }
    measured = {path for path in callers if path.startswith('benchmark/')}
    assert callers - measured == {'runtime/monitor.py'}
