"""The number of a network's threads is measured."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest

from nav_monitor_ros.perception import threads
from nav_monitor_ros.perception.threads import choose_threads


class Clockwork:
    """A network that takes so many seconds with each number of threads, by its own clock."""

    input_shape = (3, 4, 4)

    def __init__(self, seconds: dict[int, list[float]], monkeypatch) -> None:
        self.threads = 0
        self.passes = dict.fromkeys(seconds, 0)
        self._seconds = seconds
        self._now = 0.0
        monkeypatch.setattr(time, 'perf_counter', lambda: self._now)

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
        ([0.04], [0.035], 1),  # not worth the cores
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
    assert network.passes == {1: 4, 2: 4}


def test_a_single_core_needs_no_measurement(monkeypatch):
    network = Clockwork({1: [1.0]}, monkeypatch)
    assert choose_threads(network, cores=1) == 1
    assert network.threads == 1 and not network.passes[1]
