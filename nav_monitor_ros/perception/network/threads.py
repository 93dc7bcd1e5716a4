"""How many threads run a network fastest here, which is measured, and the judge: one."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nav_monitor_ros.perception.network.running_network import RunningNetwork

PASSES = 15  # that are timed with each number of threads
SHORT = 0.004  # seconds: a pass that takes no longer is left to one thread without trying more
PAUSE = 0.02  # seconds before each: a camera leaves cores time to fall asleep, too
SECONDS = 1.0  # that they may take together, for each number; three are timed at least
# By which more threads have to be faster: they take cores from everybody else, and on a core that
# is taken from one of them the others wait for it.
GAIN = 1.5

_log = logging.getLogger(__name__)


def choose_threads(network: RunningNetwork, cores: int | None = None) -> int:
    """Have a network use one thread, or one for each core if that is faster by ``GAIN``.

    Passes over an empty image are timed, with one and the other in turn, so that whatever else the
    machine does falls on both alike, with pauses as between a camera's images: without them the
    other threads are still awake, and seem faster than they are going to be. Compared are medians:
    with more threads than idle cores a pass may be quick now and then, but is not on average.
    Passes of a few milliseconds stay with one thread: they gain little, and start sooner.

    Args:
        network: In service on the CPU, with the outputs that it is going to have.
        cores: At most so many threads; None for those that this process may run on.

    Returns:
        The number that is used from now on.
    """
    cores = available_cores() if cores is None else cores
    if cores < 2:
        network.use_threads(1)
        return 1
    batch = np.zeros((1, *network.input_shape), np.float32)
    times: dict[int, list[float]] = {1: [], cores: []}
    network.use_threads(1)
    for _ in range(4):  # the first ones may be slow
        passed = _seconds(network, batch)
        if passed <= SHORT:
            _log.info('the network runs with 1 thread: a pass takes %.1f ms', passed * 1e3)
            return 1
        if passed > 10 * SHORT:
            break
    for count in times:  # what is compiled or allotted first does not count
        network.use_threads(count, trying=True)
        network(batch)
    while min(map(len, times.values())) < PASSES:
        for count, taken in times.items():
            network.use_threads(count, trying=True)
            time.sleep(PAUSE)
            taken.append(_seconds(network, batch))
        if len(times[1]) >= 3 and max(map(sum, times.values())) > SECONDS:
            break
    one, many = (float(np.median(taken)) for taken in times.values())
    chosen = cores if one > GAIN * many else 1
    network.use_threads(chosen)
    _log.info(
        'the network runs with %d thread(s): a pass took %.1f ms with 1 and %.1f ms with %d',
        chosen, one * 1e3, many * 1e3, cores,
    )
    return chosen


def _seconds(network: RunningNetwork, batch: np.ndarray) -> float:
    started = time.perf_counter()
    network(batch)
    return time.perf_counter() - started


def judge_alone() -> None:
    """Have OpenBLAS, which numpy and scipy multiply with, use one thread in this process.

    Judging a frame takes a fraction of a millisecond. Threads that help with it spin for a tenth of
    a second afterwards, in wait for more: at the rate of a camera without a break, and a core is
    lost to the network and to everybody else.
    """
    # Imported here: only who judges needs it.
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().select(internal_api='openblas').limit(limits=1)


def available_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
