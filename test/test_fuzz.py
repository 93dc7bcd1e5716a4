"""The fuzzers in short, and what they watch for."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nav_monitor_ros.errors import NavMonitorError

SHIPPED = Path(__file__).parents[1] / 'bundles' / 'digits'


def load_fuzzer():
    spec = importlib.util.spec_from_file_location(
        'fuzz', Path(__file__).parents[1] / 'benchmarks' / 'fuzz.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['fuzz'] = module
    spec.loader.exec_module(module)
    return module


fuzz = load_fuzzer()
watched = sys.modules['fuzzing.watching'].watched
needs_proc = pytest.mark.skipif(
    not fuzz.memory('VmHWM'), reason='this kernel does not tell the peak of memory')


# In short.


@pytest.mark.parametrize(
    ('target', 'executions'),
    [('image', 4000), ('compressed', 1500), ('bundle', 120), ('bag', 150), ('parameters', 4000)],
)
@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # what is spoiled overflows
def test_no_input_does_what_it_must_not(target, executions):
    if target == 'bag':
        pytest.importorskip('rosbags')
    report = fuzz.run(target, seed=1, executions=executions)
    assert not report.findings, report.findings[0]
    assert report.executions == executions
    # Inputs get through as well as being refused, for many reasons.
    assert executions // 100 < report.used < executions and report.outcomes > 15


def test_equal_seeds_give_equal_inputs():
    runs = [fuzz.run('image', seed=seed, executions=500) for seed in (3, 3, 4)]
    assert [run.used for run in runs[:2]] == [runs[0].used] * 2 and runs[0].used != runs[2].used


# What the fuzzers watch for.


class Planted(fuzz.Target):
    """Does what it is told."""

    most_memory = 50 << 20

    def fresh(self, chance):
        return None

    def spoiled(self, case, chance):
        return case

    def feed(self, case):
        with watched(self.folder):
            return case()


def use_memory():
    # Much of it: on a full machine other pages of this process may be dropped meanwhile.
    return len(bytearray(b'x') * (1 << 30))


def raise_(error):
    raise error


class TwoLinesError(NavMonitorError):
    def __str__(self):
        return 'two\nlines'


@pytest.mark.parametrize(
    ('harm', 'said'),
    [
        (lambda: Path('/etc/hostname').read_text(), '/etc/hostname'),
        (lambda: os.system('true'), 'os.system'),
        (lambda: os.listdir('/etc'), 'os.listdir'),
        (lambda: raise_(ValueError('unexpected')), 'unexpected'),
        (lambda: raise_(MemoryError()), 'MemoryError'),
        (lambda: raise_(TwoLinesError()), 'a message of'),
        (lambda: raise_(NavMonitorError('x' * 100_000)), 'a message of'),
        (lambda: raise_(NavMonitorError('')), 'a message of'),
    ],
)
def test_planted_harm_is_found(tmp_path, harm, said):
    with pytest.raises(fuzz.Finding, match=said):
        fuzz.feed(Planted(tmp_path), harm)


@needs_proc
def test_memory_beyond_the_bound_is_found(tmp_path):
    with pytest.raises(fuzz.Finding, match='MiB, more than 50'):
        fuzz.feed(Planted(tmp_path), use_memory)


ENDLESS = """
import sys, time
from pathlib import Path
from test_fuzz import Planted, fuzz

fuzz.MOST_SECONDS = 0.2

def work():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            sum(range(10_000))
        except Exception:
            pass

try:
    fuzz.feed(Planted(Path(sys.argv[1])), work)
except fuzz.Finding as finding:
    print(finding)
"""


def test_endless_work_is_found(tmp_path):
    # As the fuzzers run, in a process of its own: the time limit is a signal whose handler raises,
    # and that has crashed the interpreter of a run of many other tests (CPython 3.11.7).
    done = subprocess.run(
        [sys.executable, '-c', ENDLESS, str(tmp_path)], capture_output=True, text=True, timeout=120,
        check=False, env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert 'it took more than 0.2 s' in done.stdout


def test_refusals_and_files_of_the_input_are_no_findings(tmp_path):
    (tmp_path / 'file').write_text('content')
    target = Planted(tmp_path)
    assert fuzz.feed(target, lambda: (tmp_path / 'file').read_text()) == ('content', True)
    assert fuzz.feed(target, lambda: raise_(NavMonitorError('5 is wrong'))) == (
        'NavMonitorError: # is wrong', False)


def test_cases_of_a_target_are_not_changed_by_spoiling_them(tmp_path):
    target = fuzz.CompressedTarget(tmp_path)
    chance = random.Random(0)
    case = target.fresh(chance)
    before = repr(case)
    for _ in range(50):
        target.spoiled(case, chance)
    assert repr(case) == before
