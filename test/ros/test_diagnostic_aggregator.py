"""The analyzers for diagnostic_aggregator, held against the names of real diagnostics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[2] / 'config' / 'diagnostic_aggregator.yaml'
START = 60.0
KEYS = {  # of each type, as diagnostic_aggregator 4 declares them, with the types it expects
    'diagnostic_aggregator/GenericAnalyzer': {
        'type': str, 'path': str, 'regex': list, 'timeout': float, 'discard_stale': bool,
    },
    'diagnostic_aggregator/AnalyzerGroup': {'type': str, 'path': str, 'analyzers': dict},
}


def analyzers():
    """Return all analyzers: name -> parameters."""
    found = {}

    def collect(group, prefix=''):
        for name, analyzer in group.items():
            found[f'{prefix}{name}'] = analyzer
            collect(analyzer.get('analyzers', {}), f'{prefix}{name}/')

    own = dict(yaml.safe_load(FILE.read_text())['analyzers']['ros__parameters'])
    assert type(own.pop('path')) is str
    collect(own)
    return found


def matching(name):
    """Return the analyzers that match a status, each as std::regex_match does."""
    return [
        analyzer for analyzer, given in analyzers().items()
        if any(re.fullmatch(pattern, name) for pattern in given.get('regex', ()))
    ]


@pytest.mark.once
def test_every_analyzer_has_known_keys_of_the_right_types():
    assert len(analyzers()) == 6
    for name, given in analyzers().items():
        keys = KEYS[given['type']]
        assert {key: type(value) for key, value in given.items()} == {
            key: keys[key] for key in given}, name
        assert 'path' in given and ('regex' in given or 'analyzers' in given)
        for pattern in given.get('regex', ()):
            re.compile(pattern)


@pytest.mark.once
@pytest.mark.parametrize(('name', 'analyzer'), [
    ('/nav_monitor: input', 'nav_monitor/cameras'),
    ('nav_monitor: front: input', 'nav_monitor/cameras'),
    ('/robot/nav_monitor: rear: ood', 'nav_monitor/alert'),
    ('/nav_monitor: bond', 'nav_monitor/setup'),
    ('/robot/safety_stop: gate', 'safety_stop'),
])
def test_a_status_has_exactly_one_analyzer(name, analyzer):
    assert matching(name) == [analyzer]


@pytest.mark.once
@pytest.mark.parametrize('name', ['joystick: input', '/my_nav_monitor_2: input', 'nav_monitor'])
def test_statuses_of_other_nodes_have_none(name):
    assert matching(name) == []


@pytest.mark.ros
@pytest.mark.parametrize('cameras', [(), ('front', 'rear')], ids=['one camera', 'two cameras'])
def test_every_status_of_the_running_nodes_has_exactly_one_analyzer(graph, moody_bundle, cameras):
    pytest.importorskip('rclpy')
    from moody_feed import moody_arguments, python_path

    more = {'cameras': list(cameras)} if cameras else {}
    graph.start_monitor(
        *moody_arguments(moody_bundle, autostart=False, misspelt_parameter=1, **more),
        env=python_path())
    graph.start('safety_stop', '-p', 'misspelt_parameter:=1')

    def names():
        return {
            status.name for message in graph.heard['/diagnostics'] for status in message.status}

    graph.wait(
        lambda: {'/nav_monitor: model', '/nav_monitor: parameters', '/safety_stop: gate',
                 '/safety_stop: parameters'} <= names(), START, 'all diagnostics')
    assert len(names()) >= (6 if not cameras else 10)
    wrong = {name: found for name in names() if len(found := matching(name)) != 1}
    assert not wrong
    used = {analyzer for name in names() for analyzer in matching(name)}
    assert used == {name for name, given in analyzers().items() if 'regex' in given}
