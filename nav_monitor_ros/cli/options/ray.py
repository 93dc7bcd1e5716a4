"""Options for work on a Ray cluster."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nav_monitor_ros.errors import NavMonitorError


def add_ray(parser: argparse.ArgumentParser, *, parts: str = '') -> None:
    """Add the options that distribute work over machines.

    Args:
        parser: Parser of a command.
        parts: What the work is divided into, such as images; '' to omit ``--ray-part``.
    """
    group = parser.add_argument_group('many machines')
    group.add_argument('--ray', metavar='ADDRESS', default='',
                       help='distribute the work with Ray: local for the cores (or GPUs) of this '
                       'machine, auto or ray://HOST:PORT for a cluster whose machines share the '
                       'same files')
    group.add_argument('--ray-workers', type=int, default=0, metavar='N',
                       help='number of workers, each with its own network (default: one per GPU or '
                       'core)')
    if parts:
        group.add_argument('--ray-part', type=int, default=4096, metavar='N',
                           help=f'{parts} per task of a worker; if the worker dies, its task is '
                           'repeated (default: 4096)')


def cluster_of(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """Return a context manager that yields the requested cluster, or None if none is requested.

    Raises:
        NavMonitorError: Ray is not installed, or a number is out of range.
    """
    if options.ray_workers < 0 or getattr(options, 'ray_part', 1) < 1:
        raise NavMonitorError('--ray-workers must not be negative, and --ray-part at least 1')
    if not options.ray:
        return nullcontext()
    from nav_monitor_ros.cluster.ray_cluster import RayCluster

    return RayCluster(options.ray, workers=options.ray_workers)
