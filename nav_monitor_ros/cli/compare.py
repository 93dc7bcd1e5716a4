"""The command ``nav_monitor compare``: differences of two runs over the same images."""

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
        help='show the differences between two runs over one bag',
        description='Compare two runs over the same images, frame by frame. A run is the table '
        'or the bag that\n`nav_monitor replay` wrote, a bag with the recorded ~/ood_status of a '
        'monitor,\nor a bundle, which then judges the images of --bag.',
        epilog='examples:\n'
        '  nav_monitor compare old_bundle new_bundle --bag drive --html differences.html\n'
        '  nav_monitor compare before.csv after.csv --bag drive --fail-on-difference',
    )
    parser.add_argument('a', metavar='A', help='a run, or a bundle')
    parser.add_argument('b', metavar='B', help='another run, or a bundle')
    parser.add_argument('--bag', type=Path,
                        help='bag with the images, which bundles judge and the page shows '
                        '(default: the bag named in a run, if it exists)')
    parser.add_argument('--topic', action='append', default=[], metavar='T',
                        help='image topic in the runs and in the bag; may be repeated, also if '
                        "its name differs between the runs (default: all topics of the runs, the "
                        "bag's only image topic)")
    add_monitor(parser, bundle=False)
    parser.add_argument('--tolerance', type=_decades, default=math.inf, metavar='D',
                        help='count p-values that differ by more than D powers of ten as '
                        'differences, too (default: compare only class, flag, alert and reason)')
    parser.add_argument('--csv', type=Path, metavar='FILE',
                        help='table with one row for each image on which the runs differ')
    parser.add_argument('--html', type=Path, metavar='FILE',
                        help='page with both timelines and the images on which the runs differ')
    parser.add_argument('--fail-on-difference', action='store_true',
                        help='exit with status 1 if the runs differ or an image is missing in one')
    parser.set_defaults(run=_compare)


def _decades(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least 0")
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
    exif: set[str] = set()  # how the bundles turn images
    with ProgressBars() as progress:
        a, b = (
            _run(text, options, progress, problems, exif).of_topics(options.topic)
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
        write_page(options.html, comparison_page(
            comparison, _pictures(comparison, options, exif)))
        say(f'wrote {options.html}')
    problems += [
        f'{run.name}: 0 of {len(run.frames)} images judged: {reasons(run)}'
        for run in (a, b) if not run.judged
    ]
    if problems:
        raise NavMonitorError(problems[0])
    return int(options.fail_on_difference and bool(comparison.differences))


def _run(
    text: str, options: argparse.Namespace, progress: ProgressBars, problems: list[str],
    exif: set[str],
) -> Run:
    """Read a run, or let a bundle judge the bag."""
    from nav_monitor_ros.replay.replay import replay
    from nav_monitor_ros.replay.verdict_log import is_run, read_run, run_of
    from nav_monitor_ros.runtime.monitor import build_monitor

    if is_run(Path(text)):
        return read_run(Path(text), problems.append)
    if options.bag is None:
        raise NavMonitorError(
            f"'{text}' is not a run (a .csv file or a bag), and a bundle needs --bag with the "
            'images to judge'
        )
    values = parameters_of(argparse.Namespace(**{**vars(options), 'bundle': text}))
    bag, _ = open_topics(options.bag, _in_bag(options.bag, options.topic))
    with bag:
        monitor = build_monitor(values)
        exif.add(monitor.bundle.preprocess.exif)
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


def _pictures(
    comparison: Any, options: argparse.Namespace, exif: set[str]
) -> dict[Any, str]:
    """Return the pictures of the images that differ; without a bag print a note."""
    from nav_monitor_ros.data.bags.bag import open_bag
    from nav_monitor_ros.perception.exif_orientation import APPLY, IGNORE
    from nav_monitor_ros.replay.comparison_page import pictures_of, shown_keys

    keys = shown_keys(comparison)
    place = options.bag or next(
        (Path(run.bag) for run in (comparison.a, comparison.b) if run.bag), None)
    if not keys:
        return {}
    if place is None or (options.bag is None and not place.exists()):
        say('the page has no pictures; give the bag with the images: --bag')
        return {}
    with open_bag(place, _in_bag(place, options.topic)) as bag:
        return pictures_of(bag, keys, APPLY if APPLY in exif else IGNORE)


def _in_bag(path: Path, topics: list[str]) -> list[str]:
    """Return the topics that exist in a bag; a recorded run may use other names for its images."""
    from nav_monitor_ros.data.bags.bag import open_bag

    if len(topics) < 2:
        return topics
    with open_bag(path) as bag:
        there = {topic.name.strip('/') for topic in bag.image_topics}
    return [topic for topic in topics if topic.strip('/') in there] or topics
