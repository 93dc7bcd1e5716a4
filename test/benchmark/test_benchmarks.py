"""The benchmarks: their common form, the harness over DDS, and the comparison of two results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nav_monitor_ros.benchmark.pattern_search import patterns_benchmark
from nav_monitor_ros.benchmark.result import Figure, Result, Timing, machine_facts
from nav_monitor_ros.cli.benchmark import BENCHMARKS
from nav_monitor_ros.errors import NavMonitorError

ROOT = Path(__file__).parents[2]


def script(name: str):
    """Return a script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'benchmarks' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def result(median: float = 2.0, rate: float = 30.0, **settings) -> Result:
    """Return a result with one time in milliseconds and one rate."""
    return Result(
        'toy', 'A toy', {'size': 1, **settings}, 'reference',
        {'reference': Timing(4.0, 5.0, 1.0, 10), 'thing': Timing(median, 9.0, median / 4, 10)},
        {'rate': Figure(rate, 'higher', 'Hz', 25.0), 'milliseconds': Figure(median, 'lower', 'ms')},
    )


# ------------------------------------------------------------------ the form


def test_timings_are_told_against_their_reference():
    timing = Timing.of(np.array([0.001, 0.002, 0.003, 0.1]), reference=0.005)
    assert timing.median_ms == pytest.approx(2.5)
    assert timing.ratio == pytest.approx(0.5)
    assert 90 < timing.p99_ms <= 100
    assert timing.count == 4
    assert Timing.of([0.5]).ratio == 1.0


@pytest.mark.parametrize(
    ('figure', 'reached'),
    [
        (Figure(4.9, 'higher', target=5.0), False),
        (Figure(5.0, 'higher', target=5.0), True),
        (Figure(2.1, 'lower', target=2.0), False),
        (Figure(1.9, 'lower', target=2.0), True),
        (Figure(1.9, 'lower'), None),
    ],
)
def test_a_figure_knows_whether_its_target_is_reached(figure, reached):
    assert figure.is_reached is reached


def test_a_result_has_its_figures_at_the_top_and_the_facts_of_the_machine():
    content = json.loads(json.dumps(result().to_dict()))
    assert content['rate'] == 30.0 == content['figures']['rate']['value']
    assert content['timed']['thing']['ratio'] == 0.5
    machine = content['machine']
    assert machine['cores'] >= 1 and machine['cpu'] and machine['versions']['torch']
    assert machine.keys() == machine_facts().keys() >= {'date', 'commit', 'load_1_min', 'gpu'}
    assert len(result().tables()) == 2


def test_every_ratio_of_a_table_names_its_numerator_and_its_denominator():
    timed = {
        'one': Timing.of([1.0, 1.0]), 'two': Timing.of([2.0], 1.0),
        'three': Timing.of([3.0], 2.0, 'a third thing'),
    }
    figures = {'rate_ratio': Figure(0.5, 'higher', ratio_of='frames per second, one / two')}
    times, found = Result('b', 'Times', {}, 'one', timed, figures).tables()
    assert [column.header for column in times.columns][-1] == 'median / one'
    assert list(times.columns[-1].cells) == ['1', '2', '1.5 (median / a third thing)']
    assert list(found.columns[0].cells) == ['rate_ratio (frames per second, one / two)']
    (times,) = Result('b', 'Times', {}, 'the period of a camera', timed).tables()
    assert times.columns[-1].header == 'median / the period of a camera'


@pytest.mark.parametrize('name', [n for n, b in BENCHMARKS.items() if '.ros.' not in b.function])
def test_every_benchmark_takes_the_options_of_its_command(name):
    takes_its_options(name)


@pytest.mark.ros
@pytest.mark.parametrize('name', [n for n, b in BENCHMARKS.items() if '.ros.' in b.function])
def test_every_benchmark_over_ros_takes_the_options_of_its_command(name):
    takes_its_options(name)


def takes_its_options(name: str) -> None:
    import inspect

    parameters = inspect.signature(BENCHMARKS[name].load()).parameters
    defaults = {o.name: o.default for o in BENCHMARKS[name].options}
    assert {key: parameters[key].default for key in defaults} == defaults
    assert set(parameters) == {*defaults, 'progress'}


def test_patterns_are_measured_against_comparing_all():
    found = patterns_benchmark(patterns=2000, bits=64, queries=3, others=0)
    assert found.timed['comparing all 2000 with numpy'].ratio == 1.0
    assert 'search, query unlike any stored pattern' in found.timed
    assert found.figures['memory_mb'].value > 0
    with pytest.raises(NavMonitorError, match='at least'):
        patterns_benchmark(patterns=0)


# ------------------------------------------------------------------ two results


def written(folder: Path, name: str, content: object) -> str:
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ('median', 'rate', 'status'),
    [(2.0, 30.0, 0), (2.2, 28.0, 0), (1.0, 60.0, 0), (3.0, 30.0, 1), (2.0, 20.0, 1)],
    ids=['the same', 'within the tolerance', 'better', 'slower', 'at a lower rate'],
)
def test_what_became_slower_shows(tmp_path, capsys, median, rate, status):
    compare = script('compare')
    before = written(tmp_path, 'before.json', result().to_dict())
    after = written(tmp_path, 'after.json', {'benchmarks': {'toy': result(median, rate).to_dict()}})
    assert compare.main([before, after]) == status
    assert ('WORSE' in capsys.readouterr().out) == bool(status)
    assert compare.main([before, after, '--tolerance', '2']) == 0


def test_two_machines_are_compared_by_their_ratios(tmp_path):
    compare = script('compare')
    slow = result().to_dict()
    for timing in slow['timed'].values():
        timing['median_ms'] *= 10
    slow['figures'] = {}
    before = written(tmp_path, 'before.json', result().to_dict())
    after = written(tmp_path, 'after.json', slow)
    assert compare.main([before, after]) == 1
    assert compare.main([before, after, '--relative']) == 0


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ({'nothing': 1}, 'no result'),
        (result(size=2).to_dict(), 'settings differ'),
        ({'benchmarks': {'other': result().to_dict()}}, 'no benchmark in common'),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, capsys, content, said):
    compare = script('compare')
    before = written(tmp_path, 'before.json', result().to_dict())
    assert compare.main([before, written(tmp_path, 'after.json', content)]) == 2
    assert said in capsys.readouterr().err
    assert compare.main([before, str(tmp_path / 'missing.json')]) == 2


# ------------------------------------------------------------------ over DDS


@pytest.mark.ros
def test_the_harness_measures_the_baseline_node_over_dds(tmp_path):
    """The baseline node really classifies and judges what it is sent."""
    pytest.importorskip('pytorch_ood')
    pytest.importorskip('cv_bridge')
    import torch
    from rclpy.serialization import deserialize_message
    from safetensors.torch import save_file
    from torchvision.models import resnet18
    from vision_msgs.msg import Classification

    from nav_monitor_ros.ros.benchmark.link import Link

    torch.manual_seed(0)
    save_file(resnet18(num_classes=2).state_dict(), tmp_path / 'model.safetensors')
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)
    np.savez(tmp_path / 'training.npz', x=images, y=[0, 1, 0, 1])
    link = Link(
        [sys.executable, str(ROOT / 'benchmarks' / 'peer_node.py'), '--ros-args',
         '-p', f'weights:={tmp_path / "model.safetensors"}',
         '-p', f'training:={tmp_path / "training.npz"}'],
        Classification, '/peer/prediction', images, log=tmp_path / 'peer.log',
    )
    try:
        link.wait_ready(240)
        for _ in range(20):  # a busy machine may answer nothing within two seconds
            feed = link.feed(2.0, 2.0)
            if feed.raw:
                break
    finally:
        link.close()
    answers = [deserialize_message(raw, Classification) for raw in feed.raw]
    assert answers
    for answer in answers:
        assert answer.header.frame_id == 'benchmark'
        assert sum(result.score for result in answer.results) == pytest.approx(1.0, abs=1e-4)
    assert (feed.latencies > 0).all() and len(feed.latencies) == len(answers)


@pytest.mark.ros
def test_a_process_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    from std_msgs.msg import Header

    from nav_monitor_ros.ros.benchmark.link import Link

    link = Link(
        [sys.executable, '-c', 'raise SystemExit("no camera here")'], Header, '/seen',
        np.zeros((1, 2, 2, 3), np.uint8), log=tmp_path / 'log',
    )
    try:
        with pytest.raises(NavMonitorError, match='no camera here'):
            link.wait_ready(60)
    finally:
        link.close()


@pytest.mark.ros
def test_a_process_that_never_answers_is_told_as_such(tmp_path, monkeypatch):
    from std_msgs.msg import Header

    from nav_monitor_ros.ros.benchmark import link
    from nav_monitor_ros.ros.benchmark.link import Link

    monkeypatch.setattr(link, '_LONGEST', 0.3)
    link = Link(
        [sys.executable, '-c', 'import signal; signal.pause()'], Header, '/seen',
        np.zeros((1, 2, 2, 3), np.uint8), log=tmp_path / 'log',
    )
    try:
        with pytest.raises(NavMonitorError, match='almost no replies'):
            link.fastest(seconds=0.1, first=20.0)
        with pytest.raises(NavMonitorError, match=r'waited .* it printed nothing'):
            link.wait_ready(0.3)
    finally:
        link.close()
