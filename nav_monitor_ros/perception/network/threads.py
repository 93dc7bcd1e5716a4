"""Choice of the number of threads of a network, by measurement on this machine."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nav_monitor_ros.perception.network.running_network import RunningNetwork

PASSES = 15  # passes timed with each number of threads
SHORT = 0.004  # seconds, longest pass for which one thread is kept without trying more
PAUSE = 0.02  # seconds before each pass, since cores also sleep between a camera's images
SECONDS = 1.0  # seconds, limit on the total for each number; at least three passes are timed
# Speed-up that more threads must give: they take cores from other processes, and if one of them is
# preempted, the others wait for it.
GAIN = 1.5

_log = logging.getLogger(__name__)


def choose_threads(network: RunningNetwork, cores: int | None = None) -> int:
    """Set a network to one thread, or to one per core if that is faster by ``GAIN``.

    Passes over a black image are timed, alternating between the two, so that other load on the
    machine affects both equally, with pauses as between a camera's images: without them the threads
    would still be awake and seem faster than in operation. The medians are compared: with more
    threads than idle cores single passes may be quick, but most are not. Passes of a few
    milliseconds keep one thread: they gain little from more.

    Args:
        network: Network on the CPU, with the outputs that it will have in operation.
        cores: Largest number of threads; None for the cores that this process may run on.

    Returns:
        The number of threads that the network uses from now on.
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
    for count in times:  # not timed, because of initial compilation and allocation
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


def limit_blas_threads() -> None:
    """Limit OpenBLAS, the matrix multiplication of numpy and scipy, to one thread in this process.

    Judging a frame takes a fraction of a millisecond. OpenBLAS's threads spin for a tenth of a
    second afterwards, waiting for more work: at a camera's rate this never ends, which takes a core
    from the network and from other processes.
    """
    # Imported here since only a running monitor needs it.
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().select(internal_api='openblas').limit(limits=1)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
