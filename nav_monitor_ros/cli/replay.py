"""The command ``nav_monitor replay``: judge recordings, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say
from nav_monitor_ros.cli.options.bags import open_topics
from nav_monitor_ros.cli.options.monitor import (
    add_monitor,
    parameters_of,
    settings_of,
    warn_of_parameters,
)
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.ray import add_ray, cluster_of
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_folder import require_writable_folder
from nav_monitor_ros.files.paths import reachable

_SUFFIXES = {'output': '', 'csv': '.csv', 'html': '.html'}


def add_replay(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'replay',
        help='judge the images of a bag',
        description='Judge the images of a ROS 2 bag (MCAP or SQLite, a folder or one of its '
        "files,\ncompressed or truncated) with the node's own code, without ROS, as fast as the "
        'network allows.\nEach topic is a camera with a separate alert. Times are those of the '
        'recorder.',
        epilog='examples:\n'
        '  nav_monitor replay drive --topic /camera/image_raw --html drive.html\n'
        '  nav_monitor replay drive --topic /front/image_raw --topic /rear/image_raw \\\n'
        '      --bundle my_bundle --params monitor.yaml --output judged --csv judged.csv\n'
        '  nav_monitor replay archive/* --ray local --csv judged --html judged\n\n'
        'With several bags, --output, --csv and --html are folders with one output per bag.',
    )
    parser.add_argument('bags', type=Path, metavar='BAG', nargs='+',
                        help='a folder, or an .mcap or .db3 file; several bags are judged '
                        'independently')
    parser.add_argument('--topic', action='append', default=[], metavar='T',
                        help="image topic; may be repeated (default: the bag's only image topic)")
    add_monitor(parser)
    parser.add_argument('--output', type=Path, metavar='OUT',
                        help='write a bag with ood_alert, ood_status, prediction and ood_score')
    parser.add_argument('--overlay', action='store_true',
                        help='write the overlay to the bag, too')
    parser.add_argument('--csv', type=Path, metavar='FILE',
                        help='write a table with one row for each image')
    parser.add_argument('--html', type=Path, metavar='FILE',
                        help='write a page with the timeline of states, p-values and classes, and '
                        'images of alerts')
    parser.add_argument('--rate', type=_rate, default=0.0, metavar='R',
                        help='playback speed relative to the recording; 0: as fast as possible '
                        '(default: 0)')
    add_ray(parser)
    parser.set_defaults(run=_replay)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float('inf'):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a playback speed; give 0 (as fast as possible) or more")
    return rate


def _replay(options: argparse.Namespace) -> None:
    if options.overlay and options.output is None:
        raise NavMonitorError('--overlay is written to the bag of --output; give --output, too')
    warn_of_parameters(options)
    if len(options.bags) == 1 and not options.ray:
        _check_outputs(options)
        _report(*replay_bag(options, options.bags[0]))
        return
    each = list(_of_each(options))
    for (own,) in each:
        _check_outputs(own)
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
    """Worker that loads the monitor once and replays one bag after another."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the bundle that the options name."""
        from nav_monitor_ros.runtime.monitor import build_monitor

        self._monitor = build_monitor(parameters_of(options))

    def do(self, options: argparse.Namespace) -> tuple[list[str], list[str]]:
        """Replay one bag; return its summary lines, and its problems."""
        (bag,) = options.bags
        try:
            return replay_bag(options, bag, self._monitor)
        except NavMonitorError as error:
            # A damaged bag must not prevent the others from being judged.
            return [], [str(error)]


def replay_bag(
    options: argparse.Namespace, path: Path, monitor: Any = None
) -> tuple[list[str], list[str]]:
    """Replay one bag.

    Args:
        options: Options of the command, with the outputs for this bag.
        path: Path of the bag.
        monitor: Monitor that judges the images; None to build one from the options.

    Returns:
        Summary lines, and descriptions of the parts of the bag that could not be read.

    Raises:
        NavMonitorError: No part of the bag can be replayed.
    """
    from nav_monitor_ros.files.pictures import write_page
    from nav_monitor_ros.replay.output_files import BagWriter, TableWriter
    from nav_monitor_ros.replay.page import ReplaySummary
    from nav_monitor_ros.replay.replay import replay
    from nav_monitor_ros.runtime.monitor import build_monitor

    values = parameters_of(options)
    settings = settings_of(values)
    problems: list[str] = []
    with ExitStack() as resources:
        bag, topics = open_topics(path, options.topic)
        resources.callback(bag.close)
        monitor = monitor or build_monitor(values)
        summary = ReplaySummary()
        writers: list[BagWriter | TableWriter] = []
        if options.output is not None:
            writers.append(resources.enter_context(BagWriter(
                options.output, topics, monitor.bundle.class_names, overlay=options.overlay,
                about={'bag': str(path.absolute()), 'bundle': monitor.bundle.name},
            )))
        if options.csv is not None:
            writers.append(resources.enter_context(
                TableWriter(options.csv, monitor.judge.score_names)))
        progress = resources.enter_context(ProgressBars())
        pace, start = _Pace(options.rate), time.monotonic()
        for event in replay(monitor, bag, settings=settings, report=problems.append):
            pace.wait(event.time_ns)
            for writer in writers:
                writer.write(event)
            summary.add(event)
            progress('images', summary.frames, len(bag))
        seconds = time.monotonic() - start
    unjudged = summary.unjudged and f'; not judged: {summary.unjudged}'
    lines = [
        f'{summary.judged} of {summary.frames} images of {path.name} judged by '
        f'{monitor.bundle.name} in {seconds:.1f} s ({summary.frames / seconds:.0f} per second): '
        f'{summary.flagged} flagged{unjudged}',
        *(f'{topic}: {count} alert{"s" * (count != 1)}'
          for topic, count in summary.alerts.items()),
    ]
    if not summary.judged:
        problems.append(
            f'{path}: 0 of {summary.frames} images judged: '
            f'{summary.unjudged or "no image could be read"}')
    if options.html is not None:
        write_page(options.html, summary.page(f'Replay of {path.name}', [
            *lines, *problems]))
    written = [file for file in (options.output, options.csv, options.html) if file is not None]
    return [*lines, *(f'wrote {file}' for file in written)], problems


def _check_outputs(options: argparse.Namespace) -> None:
    """Check the outputs of one bag, before any bag is judged.

    Raises:
        NavMonitorError: Two outputs are the same, one is an input or lies in another output, or
            one cannot be written.
    """
    check_outputs(
        options, {'--csv': options.csv, '--html': options.html},
        folders={'--output': options.output},
    )
    if options.output is not None:
        require_writable_folder(options.output)
        if reachable(options.output).exists():
            raise NavMonitorError(
                f'{options.output} already exists; name another folder, or remove this one first')


def _of_each(options: argparse.Namespace) -> Iterator[tuple[argparse.Namespace]]:
    """Yield the options for each bag; with several bags, the outputs are named after the bag.

    Raises:
        NavMonitorError: Two bags have the same name.
    """
    bags = [reachable(bag.absolute()) for bag in options.bags]
    names = [bag.stem if bag.is_file() else bag.name for bag in bags]
    for name in names:
        if names.count(name) > 1:
            raise NavMonitorError(
                f"two of the bags are called '{name}' and would have the same outputs; replay them "
                'one at a time'
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
    """Return the options for another process: with absolute paths, without functions."""
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


class _Pace:
    """Limits a replay to a multiple of the recording's speed."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._begin: tuple[float, int] | None = None

    def wait(self, time_ns: int) -> None:
        """Wait until this time of the recording is due."""
        if not self._rate:
            return
        now = time.monotonic()
        begin, begin_ns = self._begin = self._begin or (now, time_ns)
        due = begin + (time_ns - begin_ns) / 1e9 / self._rate
        if due > now:
            sys.stdout.flush()
            time.sleep(due - now)
