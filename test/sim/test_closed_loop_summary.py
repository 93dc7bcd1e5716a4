"""The numbers that the benchmark of the closed loop writes."""

from __future__ import annotations

import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nav_monitor_ros.sim.ordinary_drives import DriveRecord

pytestmark = pytest.mark.once


@pytest.fixture(scope='module')
def closed_loop():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / 'benchmarks'))
        import closed_loop
        yield closed_loop
    sys.modules.pop('closed_loop', None)


def test_shares_have_the_interval_of_clopper_and_pearson(closed_loop):
    assert closed_loop.share_interval(200, 200) == [pytest.approx(0.9817, abs=1e-4), 1.0]
    assert closed_loop.share_interval(0, 25) == [0.0, pytest.approx(0.1372, abs=1e-4)]
    low, high = closed_loop.share_interval(10, 20)
    assert (low, high) == (pytest.approx(0.2720, abs=1e-4), pytest.approx(0.7280, abs=1e-4))


def test_false_stops_per_hour_have_a_poisson_interval(closed_loop):
    quiet, once = np.zeros(18000, bool), np.zeros(18000, bool)
    once[100:150] = True
    drives = [DriveRecord(n, v, v, {}, 10.0) for n, v in enumerate((quiet, once))]
    found = closed_loop.summarise_drives(drives)
    assert (found['drives'], found['hours'], found['false_stops']) == (2, 1.0, 1)
    assert found['false_stops_per_hour_interval'] == [
        pytest.approx(0.025, abs=1e-3), pytest.approx(5.572, abs=1e-3)]
    assert found['share_true'] == pytest.approx(50 / 36000)
    assert found['distance_share'] == pytest.approx(1 - 5.25 / 3600, abs=1e-5)


def test_draws_that_do_not_count_stand_apart(closed_loop):
    ends = [('stopped', 0.5), ('stopped', 0.3), ('contact', -0.01), ('coincidence', 0.4),
            ('excluded_alert', 3.0)]
    records = [{'kind': 'ball', 'outcome': o, 'end_gap': g} for o, g in ends]
    found = closed_loop.summarise_encounters(records, ['ball', 'spill'])
    assert (found['ball']['encounters'], found['ball']['stopped']) == (4, 2)
    assert found['ball']['median_gap'] == pytest.approx(0.4)
    assert found['ball']['outcomes']['excluded_alert'] == 1
    assert found['spill']['encounters'] == 0 and found['all'] == {
        **found['ball'], 'interval': found['all']['interval']}


def test_tasks_run_ahead_and_their_seeds_come_in_order(closed_loop):
    done, started = [], []

    def task(seed):
        started.append(seed)
        if seed == 2:
            return None  # done in an earlier run

        def run():
            time.sleep(0.05 if seed == 0 else 0.0)
            done.append(seed)
        return run

    with ThreadPoolExecutor(2) as pool:
        found = []
        for seed in closed_loop.ahead(pool, itertools.count(), task, 2):
            assert seed in done or seed == 2
            found.append(seed)
            if seed == 5:
                break
    assert found == [0, 1, 2, 3, 4, 5]
    assert max(started) == 7  # two tasks ahead


def test_a_task_that_fails_ends_the_measurement(closed_loop):
    def task(seed):
        return lambda: 1 / (seed - 1)

    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(closed_loop.ahead(pool, iter(range(5)), task, 2))
