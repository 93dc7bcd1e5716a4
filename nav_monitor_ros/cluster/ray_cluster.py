"""Distribution of work with Ray; if a worker dies, its part is repeated on another one.

Ray carries Python objects as pickles between processes of one cluster; a cluster's processes trust
each other. Nothing of it reaches a bundle.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.interrupt import handle_signals_again, raise_if_requested

LOCAL = 'local'
_LOOK = 0.2  # seconds between two checks for an interrupt
_OBJECT_STORE = 256 << 20  # bytes, for a local cluster that is started for one command
_ATTEMPTS = 4  # at each part, each on another worker
_log = logging.getLogger(__name__)


class RayCluster:
    """Connection to a Ray cluster, or to a temporary one on this machine."""

    def __init__(self, address: str = LOCAL, *, workers: int = 0) -> None:
        """Configure the connection; ``with`` connects.

        Args:
            address: ``local``, or what ``ray.init`` takes: ``auto``, ``ray://HOST:PORT``.
            workers: Actors that hold a network each; 0 for one for each GPU of the cluster or,
                where it has none, for each core.

        Raises:
            NavMonitorError: Ray is not installed.
        """
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        # This will become Ray's default, and Ray would warn about it.
        os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
        try:
            import ray
        except ImportError:
            raise NavMonitorError(
                "--ray needs Ray: pip install 'nav_monitor_ros[ray]', or ray itself"
            ) from None
        self._ray: Any = ray
        self._address = address
        self._wanted = workers
        self.workers = workers
        self._gpus = 0
        self._idle: list[Any] = []  # actors, each with its imports and perhaps a network
        self._jobs: dict[int, tuple[object, Any]] = {}

    def __enter__(self) -> RayCluster:
        """Connect.

        Raises:
            NavMonitorError: There is no such cluster.
        """
        common = {'log_to_driver': False, 'logging_level': logging.ERROR}
        try:
            if self._address == LOCAL:
                self._ray.init(
                    address=LOCAL, num_cpus=self._wanted or len(os.sched_getaffinity(0)),
                    include_dashboard=False, object_store_memory=_OBJECT_STORE, **common,
                )
            else:
                self._ray.init(address=self._address, **common)
        except Exception as error:  # depends on what the address refers to
            self._ray.shutdown()
            reason = one_line(error, 300)
            raise NavMonitorError(
                f'--ray {self._address}: no cluster responds ({reason}); start one with `ray start '
                '--head`, or use --ray local'
            ) from None
        handle_signals_again()  # Ray's own handler raises
        there = self._ray.cluster_resources()
        self._gpus = int(there.get('GPU', 0))
        self.workers = self._wanted or self._gpus or max(1, int(there.get('CPU', 1)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect from the cluster; a local one is shut down."""
        self._idle.clear()
        self._jobs.clear()
        self._ray.shutdown()

    def run(
        self,
        worker: type,
        job: object,
        parts: Sequence[tuple[Any, ...]],
        *,
        reduce: Callable[[Any, Any, Any], Any] | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Any:
        """Process all parts in actors; if an actor dies, its part is repeated.

        Actors are kept for the next call, with their imported modules.

        Args:
            worker: Class that each actor creates with ``job``; ``do(*part)`` returns the result of
                a part.
            job: Argument for all workers, which is sent to each machine once.
            parts: Tuple of arguments for each part.
            reduce: Makes one result of two neighbours', given ``job``; results then become one
                along a binary tree whose form the number of parts alone decides, on the cluster.
            progress: Callback for the number of completed parts.

        Returns:
            The result of all parts with ``reduce``, a list of each part's without.

        Raises:
            NavMonitorError: A part raised it, or killed one worker after the other.
        """
        return _Run(self._ray, self, worker, job, parts, reduce, progress).result()

    def hire(self) -> Any:
        """Return an idle actor, or a new one if there is none."""
        if self._idle:
            return self._idle.pop()
        share = {'num_gpus': 1} if self._gpus else {'num_cpus': 1}
        return self._ray.remote(max_restarts=0, max_task_retries=0, **share)(_Actor).remote()

    def release(self, actor: Any) -> None:
        """Take back an idle actor."""
        self._idle.append(actor)

    def sent(self, job: object) -> Any:
        """Return a job as the cluster holds it."""
        if id(job) not in self._jobs:
            self._jobs[id(job)] = job, self._ray.put(job)
        return self._jobs[id(job)][1]


@dataclass(frozen=True)
class _Task:
    """Part of the work, or a merge of two results."""

    level: int  # level in the tree; parts are level 0
    place: int  # position on that level
    inputs: tuple[Any, Any] | None = None  # results to merge


class _Run:
    """One piece of work: its actors, what waits, and what is done."""

    def __init__(
        self,
        ray: Any,
        cluster: RayCluster,
        worker: type,
        job: object,
        parts: Sequence[tuple[Any, ...]],
        reduce: Callable[[Any, Any, Any], Any] | None,
        progress: Callable[[int], None],
    ) -> None:
        self._ray = ray
        self._cluster = cluster
        # In a list: the actor fetches the job when it is new to it, not for every part.
        self._what = (id(job), worker, [cluster.sent(job)])
        self._parts = parts
        self._reduce = reduce
        self._progress = progress
        self._limit = min(cluster.workers, len(parts))
        self._waiting = deque(_Task(0, place) for place in range(len(parts)))
        self._attempts: Counter[tuple[int, int]] = Counter()
        self._running: dict[Any, tuple[_Task, Any, Any]] = {}  # mark -> task, actor, result
        self._results: dict[tuple[int, int], Any] = {}  # level, place -> result
        self._finished: set[int] = set()

    def result(self) -> Any:
        """Process all parts and return the result."""
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._limit:
                    self._start(self._waiting.popleft())
                raise_if_requested()
                ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK)
                for mark in ready:
                    self._ended(mark)
        finally:
            for _, actor, _ in self._running.values():
                self._ray.kill(actor)
        if self._reduce is not None:
            (root,) = self._results.values()
            return self._ray.get(root)
        return [self._ray.get(self._results[0, place]) for place in range(len(self._parts))]

    def _start(self, task: _Task) -> None:
        actor = self._cluster.hire()
        if task.inputs is None:
            call, arguments = actor.do, self._parts[task.place]
        else:
            call, arguments = actor.merge, (self._reduce, *task.inputs)
        mark, result = call.options(num_returns=2).remote(*self._what, *arguments)
        self._running[mark] = task, actor, result

    def _ended(self, mark: Any) -> None:
        task, actor, result = self._running.pop(mark)
        try:
            self._ray.get(mark)
        except self._ray.exceptions.RayTaskError as error:
            self._cluster.release(actor)
            raise _plain(error) from None
        except self._ray.exceptions.RayActorError as error:  # it, or its machine, is gone
            self._again(task, error)
            return
        except self._ray.exceptions.RayError:  # a machine took results with it
            self._cluster.release(actor)
            self._lost(task)
            return
        self._cluster.release(actor)
        if task.level == 0:
            self._finished.add(task.place)
            self._progress(len(self._finished))
        self._settle(task.level, task.place, result)

    def _again(self, task: _Task, error: Exception) -> None:
        key = task.level, task.place
        self._attempts[key] += 1
        if self._attempts[key] >= _ATTEMPTS:
            raise NavMonitorError(
                f'part {task.place} of {len(self._parts)} ended {_ATTEMPTS} workers one after the '
                f'other ({one_line(error)}); is there memory enough?'
            ) from None
        _log.info('a worker died; what it was at (part %d) is done anew by another', task.place)
        self._waiting.appendleft(task)

    def _lost(self, task: _Task) -> None:
        """Have all parts below a merge done again whose inputs are gone."""
        last = min((task.place + 1) << task.level, len(self._parts))
        lost = range(task.place << task.level, last)
        _log.info('parts %d to %d were lost with a machine and are done anew', lost[0], lost[-1])
        self._finished.difference_update(lost)
        self._waiting.extendleft(_Task(0, place) for place in reversed(lost))

    def _settle(self, level: int, place: int, result: Any) -> None:
        """Store a result, and merge it once its neighbour's is available."""
        count = self._count(level)
        while self._reduce is not None and count > 1 and place ^ 1 >= count:
            level, place = level + 1, place // 2  # the last of an odd number
            count = self._count(level)
        neighbour = None
        if self._reduce is not None and count > 1:
            neighbour = self._results.pop((level, place ^ 1), None)
        if neighbour is None:
            self._results[level, place] = result
            return
        pair = (result, neighbour) if place % 2 == 0 else (neighbour, result)
        # Before further parts: what is merged takes no more room.
        self._waiting.appendleft(_Task(level + 1, place // 2, pair))

    def _count(self, level: int) -> int:
        return -(-len(self._parts) // (1 << level))


class _Actor:
    """A process of the cluster; keeps the worker of the last job."""

    def __init__(self) -> None:
        self._key = 0
        self._job: Any = None
        self._worker: Any = None

    def do(self, key: int, worker: type, job: list[Any], *part: Any) -> tuple[bool, Any]:
        """Return a mark that is small, and the result, which stays where it is until it is used."""
        self._take(key, job)
        if self._worker is None:
            self._worker = worker(self._job)
        return True, self._worker.do(*part)

    def merge(
        self, key: int, _worker: type, job: list[Any], reduce: Any, left: Any, right: Any
    ) -> tuple[bool, Any]:
        """Return a mark, and one result made of two."""
        self._take(key, job)
        return True, reduce(self._job, left, right)

    def _take(self, key: int, job: list[Any]) -> None:
        if key != self._key:
            import ray

            self._worker, self._job, self._key = None, ray.get(job[0]), key


def _plain(error: Any) -> Exception:
    """Return what a part raised as it was raised there."""
    cause = error.cause
    if isinstance(cause, NavMonitorError):
        return cause
    said = ' '.join(str(cause).split())
    return NavMonitorError(f'a worker failed: {type(cause).__name__}: {said}')
