"""The number of a network's threads is measured."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
import time

import numpy as np
import pytest

from nav_monitor_ros.perception.network import threads
from nav_monitor_ros.perception.network.threads import choose_threads

_JUDGING = """
import os, time
import numpy as np
from threadpoolctl import threadpool_info
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.runtime.monitor import Monitor

Monitor(load_bundle('digits'), device='cpu')
matrix, row = np.ones((512, 512), np.float32), np.ones((1, 512), np.float32)
started = time.process_time(), time.monotonic()
for _ in range(30):
    row @ matrix
    time.sleep(0.03)
spent = (time.process_time() - started[0]) / (time.monotonic() - started[1])
print([one['num_threads'] for one in threadpool_info() if one['internal_api'] == 'openblas'], spent)
"""


class Clockwork:
    """A network that takes so many seconds with each number of threads, by its own clock."""

    input_shape = (3, 4, 4)

    def __init__(self, seconds: dict[int, list[float]], monkeypatch) -> None:
        self.threads = 0
        self.passes = dict.fromkeys(seconds, 0)
        self._seconds = seconds
        self._now = 0.0
        monkeypatch.setattr(time, 'perf_counter', lambda: self._now)
        monkeypatch.setattr(time, 'sleep', lambda seconds: None)

    def use_threads(self, count: int, *, trying: bool = False) -> None:
        self.threads = count

    def __call__(self, batch: np.ndarray) -> None:
        assert batch.shape == (1, *self.input_shape)
        taken = self._seconds[self.threads]
        self._now += taken[self.passes[self.threads] % len(taken)]
        self.passes[self.threads] += 1


@pytest.mark.parametrize(
    ('one', 'four', 'chosen'),
    [
        ([0.04], [0.02], 4),
        ([0.04], [0.03], 1),  # not worth the cores
        ([0.02], [0.30], 1),
        ([0.04], [0.01, 0.5, 0.5], 1),  # quick now and then, as on a busy machine
    ],
    ids=['faster', 'hardly faster', 'slower', 'seldom faster'],
)
def test_as_many_threads_as_cores_are_used_only_where_they_are_faster(
    one, four, chosen, monkeypatch, caplog
):
    network = Clockwork({1: one, 4: four}, monkeypatch)
    with caplog.at_level(logging.INFO, logger=threads.__name__):
        assert choose_threads(network, cores=4) == chosen
    assert network.threads == chosen
    assert f'runs with {chosen} thread(s)' in caplog.text


def test_a_slow_network_is_timed_for_a_short_while_only(monkeypatch):
    network = Clockwork({1: [5.0], 2: [4.9]}, monkeypatch)
    assert choose_threads(network, cores=2) == 1
    assert network.passes == {1: 5, 2: 4}


def test_a_short_pass_is_left_to_one_thread_at_once(monkeypatch):
    network = Clockwork({1: [0.03, 0.002], 4: [0.0001]}, monkeypatch)
    assert choose_threads(network, cores=4) == 1
    assert network.threads == 1 and network.passes == {1: 2, 4: 0}


def test_a_single_core_needs_no_measurement(monkeypatch):
    network = Clockwork({1: [1.0]}, monkeypatch)
    assert choose_threads(network, cores=1) == 1
    assert network.threads == 1 and not network.passes[1]


def test_judging_leaves_the_other_cores_alone():
    """OpenBLAS's other threads spin between the frames of a camera: one core lost for nothing."""
    ended = subprocess.run(
        [sys.executable, '-c', _JUDGING], capture_output=True, text=True, timeout=300, check=True
    )
    counts, spent = ended.stdout.splitlines()[-1].rsplit(' ', 1)
    assert set(ast.literal_eval(counts)) <= {1}
    assert float(spent) < 0.5  # cores; it is 1 where a thread spins
