"""Work on a Ray cluster, as the command line asks for it."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nav_monitor_ros.errors import NavMonitorError


def add_ray(parser: argparse.ArgumentParser, *, parts: str = '') -> None:
    """Add the options that spread work over machines.

    Args:
        parser: Of a command.
        parts: What its work is divided into; without it only workers are asked for.
    """
    group = parser.add_argument_group('many machines')
    group.add_argument('--ray', metavar='ADDRESS', default='',
                       help='spread the work by Ray: local for the cores (or GPUs) of this '
                       'machine, auto or ray://HOST:PORT for a cluster whose machines see the same '
                       'files')
    group.add_argument('--ray-workers', type=int, default=0, metavar='N',
                       help='with a network each (default: one a GPU, or one a core)')
    if parts:
        group.add_argument('--ray-part', type=int, default=4096, metavar='N',
                           help=f'{parts} that a worker takes at once, and that are done anew if '
                           'it dies (default: 4096)')


def cluster_of(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """Return what connects to the cluster that is asked for, and yields None if none is.

    Raises:
        NavMonitorError: Ray is not installed, or a number is out of range.
    """
    if options.ray_workers < 0 or getattr(options, 'ray_part', 1) < 1:
        raise NavMonitorError('--ray-workers must not be negative, and --ray-part at least 1')
    if not options.ray:
        return nullcontext()
    from nav_monitor_ros.cluster.ray_cluster import RayCluster

    return RayCluster(options.ray, workers=options.ray_workers)
