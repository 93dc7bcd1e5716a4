"""How many threads run a network fastest here: measured, since nobody can guess it."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nav_monitor_ros.perception.running import RunningNetwork

PASSES = 7  # that are timed with each number of threads
SECONDS = 0.5  # that they may take together, for each number; three are timed at least
GAIN = 1.25  # by which more threads have to be faster: they take cores from everybody else

_log = logging.getLogger(__name__)


def choose_threads(network: RunningNetwork, cores: int | None = None) -> int:
    """Have a network use one thread, or one for each core if that is faster by ``GAIN``.

    Passes over an empty image are timed, with one and the other in turn, so that whatever else the
    machine does falls on both alike. Compared are medians: with more threads than idle cores a
    pass may be quick now and then, but is not on average.

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
    for count in times:  # what is compiled or allotted first does not count
        network.use_threads(count, trying=True)
        network(batch)
    while min(map(len, times.values())) < PASSES:
        for count, taken in times.items():
            network.use_threads(count, trying=True)
            started = time.perf_counter()
            network(batch)
            taken.append(time.perf_counter() - started)
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


def available_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
