"""``nav_monitor replay`` of one bag or of many, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.output import ProgressBars, say
from nav_monitor_ros.cli.ray_options import add_ray, cluster_of
from nav_monitor_ros.cli.replay import (
    add_replay,
    parameters_of,
    replay_bag,
    warn_of_parameters,
)
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable

_SUFFIXES = {'output': '', 'csv': '.csv', 'html': '.html'}


def add_replays(commands: Any) -> None:
    """Add the command."""
    parser = add_replay(commands)
    parser.epilog = (
        f'{parser.epilog}\n  nav_monitor replay archive/* --ray local --csv judged --html judged\n'
        '\nOf several bags --output, --csv and --html name folders, in which each has its own.'
    )
    add_ray(parser)
    parser.set_defaults(run=_replays)


def _replays(options: argparse.Namespace) -> None:
    warn_of_parameters(options)
    if len(options.bags) == 1 and not options.ray:
        _report(*replay_bag(options, options.bags[0]))
        return
    each = list(_of_each(options))
    unread = []
    with cluster_of(options) as cluster:
        if cluster is None:
            worker = ReplayWorker(options)
            results = [worker.do(*one) for one in each]
        else:
            with ProgressBars() as progress:
                results = cluster.run(
                    ReplayWorker, _portable(options), [(own,) for (own,) in each],
                    progress=lambda done: progress('bags', done, len(each)),
                )
    for lines, problems in results:
        for line in lines:
            say(line)
        unread += problems
    _report([], unread)


class ReplayWorker:
    """Holds the monitor and replays one bag after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the bundle that the options name."""
        from nav_monitor_ros.runtime.monitor import build_monitor

        self._monitor = build_monitor(parameters_of(options))

    def do(self, options: argparse.Namespace) -> tuple[list[str], list[str]]:
        """Return what there is to say of a bag, and what could not be read of it."""
        (bag,) = options.bags
        try:
            return replay_bag(options, bag, self._monitor)
        except NavMonitorError as error:
            # One bag that is broken does not keep the others from being judged.
            return [], [str(error)]


def _of_each(options: argparse.Namespace) -> Iterator[tuple[argparse.Namespace]]:
    """Yield the options of each bag alone; of several, its outputs lie in folders.

    Raises:
        NavMonitorError: Two bags have one name.
    """
    bags = [reachable(bag.absolute()) for bag in options.bags]
    names = [bag.stem if bag.is_file() else bag.name for bag in bags]
    for name in names:
        if names.count(name) > 1:
            raise NavMonitorError(
                f"two of the bags are called '{name}', and would write to the same place; replay "
                'them one after the other'
            )
    for bag, name in zip(options.bags, names, strict=True):
        own = argparse.Namespace(**vars(_portable(options)))
        own.bags = [bag.absolute()]
        if len(options.bags) > 1:
            for what, suffix in _SUFFIXES.items():
                folder = getattr(own, what)
                if folder is not None:
                    setattr(own, what, folder / f'{name}{suffix}')
        yield (own,)


def _portable(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options without what only this process knows, paths being absolute."""
    known = {name: value for name, value in vars(options).items() if name != 'run'}
    if known['bundle'] and reachable(Path(known['bundle'])).is_dir():
        known['bundle'] = str(Path(known['bundle']).absolute())
    return argparse.Namespace(**{
        name: value.absolute() if isinstance(value, Path) else value
        for name, value in known.items()
    })


def _report(lines: list[str], problems: list[str]) -> None:
    for line in lines:
        say(line)
    if problems:
        more = f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''
        raise NavMonitorError(f'{problems[0]}{more}')
