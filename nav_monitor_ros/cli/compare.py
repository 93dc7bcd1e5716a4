"""``nav_monitor compare``: two runs over the same images."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nav_monitor_ros.cli.console import ProgressBars, say, table_console
from nav_monitor_ros.cli.options.bags import open_topics
from nav_monitor_ros.cli.options.monitor import (
    add_monitor,
    parameters_of,
    settings_of,
    warn_of_parameters,
)
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.errors import NavMonitorError

if TYPE_CHECKING:
    from nav_monitor_ros.replay.verdict_log import Run


def add_compare(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'compare',
        help='show where two runs over one bag differ',
        description='Compare two runs over the same images, frame by frame. A run is the table '
        'or the bag that\n`nav_monitor replay` wrote, a bag into which ~/ood_status of a running '
        'monitor was recorded,\nor a bundle, by which --bag is judged now.',
        epilog='examples:\n'
        '  nav_monitor compare old_bundle new_bundle --bag drive --html differences.html\n'
        '  nav_monitor compare before.csv after.csv --bag drive --fail-on-difference',
    )
    parser.add_argument('a', metavar='A', help='a run, or a bundle')
    parser.add_argument('b', metavar='B', help='another one')
    parser.add_argument('--bag', type=Path,
                        help='with the images: judged by bundles, shown on the page (default: the '
                        'one that a run says it is of, if it is there)')
    parser.add_argument('--topic', action='append', default=[], metavar='T',
                        help='of images, in the runs and in the bag; may be repeated, also to name '
                        'one of each run (default: all of the runs, the only one of the bag)')
    add_monitor(parser, bundle=False)
    parser.add_argument('--tolerance', type=_decades, default=math.inf, metavar='D',
                        help='count p-values that change by more than D powers of ten as '
                        'differences (default: only what is made of them)')
    parser.add_argument('--csv', type=Path, metavar='FILE',
                        help='one line for each image on which the runs differ')
    parser.add_argument('--html', type=Path, metavar='FILE',
                        help='a page: both timelines, and images on which the runs differ')
    parser.add_argument('--fail-on-difference', action='store_true',
                        help='end with status 1 if there is one, or an image is missing in a run')
    parser.set_defaults(run=_compare)


def _decades(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of at least 0")
    return value


def _compare(options: argparse.Namespace) -> int:
    from nav_monitor_ros.files.atomic_file import write_file
    from nav_monitor_ros.files.pictures import write_page
    from nav_monitor_ros.replay.comparison import (
        compare_runs,
        difference_table,
        lines,
        reasons,
        summary_table,
    )
    from nav_monitor_ros.replay.comparison_page import comparison_page

    check_outputs(options, {'--csv': options.csv, '--html': options.html}, inputs={
        'the run A': Path(options.a), 'the run B': Path(options.b),
    })
    warn_of_parameters(argparse.Namespace(**{**vars(options), 'bundle': None}))
    problems: list[str] = []
    with ProgressBars() as progress:
        a, b = (
            _run(text, options, progress, problems).of_topics(options.topic)
            for text in (options.a, options.b)
        )
    if a.name == b.name:
        a, b = (_renamed(run, text) for run, text in ((a, options.a), (b, options.b)))
    comparison = compare_runs(a, b, tolerance=options.tolerance)
    table_console().print(summary_table(comparison))
    for line in lines(comparison):
        say(line)
    if options.csv is not None:
        write_file(options.csv, difference_table(comparison).encode())
        say(f'wrote {options.csv}')
    if options.html is not None:
        write_page(options.html, comparison_page(comparison, _pictures(comparison, options)))
        say(f'wrote {options.html}')
    problems += [
        f'{run.name}: 0 of {len(run.frames)} images judged: {reasons(run)}'
        for run in (a, b) if not run.judged
    ]
    if problems:
        raise NavMonitorError(problems[0])
    return int(options.fail_on_difference and bool(comparison.differences))


def _run(
    text: str, options: argparse.Namespace, progress: ProgressBars, problems: list[str]
) -> Run:
    """Return what a run left, or judge the bag by a bundle."""
    from nav_monitor_ros.replay.replay import replay
    from nav_monitor_ros.replay.verdict_log import is_run, read_run, run_of
    from nav_monitor_ros.runtime.monitor import build_monitor

    if is_run(Path(text)):
        return read_run(Path(text), problems.append)
    if options.bag is None:
        raise NavMonitorError(
            f"'{text}' is no run (a .csv file or a bag), and a bundle needs --bag with the images "
            'to judge'
        )
    values = parameters_of(argparse.Namespace(**{**vars(options), 'bundle': text}))
    bag, _ = open_topics(options.bag, _in_bag(options.bag, options.topic))
    with bag:
        monitor = build_monitor(values)
        name, done = monitor.bundle.name, 0

        def judged() -> Any:
            nonlocal done
            for event in replay(
                monitor, bag, settings=settings_of(values), report=problems.append
            ):
                done += event.image is not None
                progress(f'images by {text}', done, len(bag))
                yield event

        return run_of(name, judged(), str(options.bag))


def _renamed(run: Run, text: str) -> Run:
    from dataclasses import replace

    return replace(run, name=text)


def _pictures(comparison: Any, options: argparse.Namespace) -> dict[Any, str]:
    """Return the pictures that can be had, and say so where there are none."""
    from nav_monitor_ros.data.bags.bag import open_bag
    from nav_monitor_ros.replay.comparison_page import pictures_of, shown_keys

    keys = shown_keys(comparison)
    place = options.bag or next(
        (Path(run.bag) for run in (comparison.a, comparison.b) if run.bag), None)
    if not keys:
        return {}
    if place is None or (options.bag is None and not place.exists()):
        say('the page has no pictures: name the bag with the images, --bag')
        return {}
    with open_bag(place, _in_bag(place, options.topic)) as bag:
        return pictures_of(bag, keys)


def _in_bag(path: Path, topics: list[str]) -> list[str]:
    """Return the topics that a bag has; a recorded run may call its images by other names."""
    from nav_monitor_ros.data.bags.bag import open_bag

    if len(topics) < 2:
        return topics
    with open_bag(path) as bag:
        there = {topic.name.strip('/') for topic in bag.image_topics}
    return [topic for topic in topics if topic.strip('/') in there] or topics
