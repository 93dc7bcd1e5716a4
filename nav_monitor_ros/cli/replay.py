"""``nav_monitor replay``: recordings through the monitor."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.output import ProgressBars
from nav_monitor_ros.errors import NavMonitorError, printable
from nav_monitor_ros.files.output_paths import check_output_paths

_FORMATS = argparse.RawDescriptionHelpFormatter
_OVERLONG = 1000  # letters of a list of topics


def add_replay(commands: Any) -> argparse.ArgumentParser:
    """Add the command, and return its parser."""
    parser = commands.add_parser(
        'replay',
        help='judge the images of a bag',
        formatter_class=_FORMATS,
        description='Judge the images of a ROS 2 bag (MCAP or SQLite, a folder or one of its '
        'files,\ncompressed or cut off) by the core of the node, without ROS, as fast as the '
        'network goes.\nEach topic is a camera with an alert of its own. Time is that of the '
        'recorder.',
        epilog='examples:\n'
        '  nav_monitor replay drive --topic /camera/image_raw --html drive.html\n'
        '  nav_monitor replay drive --topic /front/image_raw --topic /rear/image_raw \\\n'
        '      --bundle my_bundle --params monitor.yaml --output judged --csv judged.csv',
    )
    parser.add_argument('bags', type=Path, metavar='BAG', nargs='+',
                        help='a folder, or an .mcap or .db3 file; of several, each by itself')
    parser.add_argument('--topic', action='append', default=[], metavar='T',
                        help='with images; may be repeated (default: the only one there is)')
    add_monitor(parser)
    parser.add_argument('--output', type=Path, metavar='OUT',
                        help='a bag to write: ood_alert, ood_status, prediction, ood_score')
    parser.add_argument('--overlay', action='store_true', help='write the overlay into it too')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='one line for each image')
    parser.add_argument('--html', type=Path, metavar='FILE',
                        help='a page: timeline of states, p-values and classes, images of alerts')
    parser.add_argument('--rate', type=_rate, default=0.0, metavar='R',
                        help='times the speed of the recording; 0 for as fast as it goes '
                        '(default: 0)')
    return parser


def add_monitor(parser: argparse.ArgumentParser, *, bundle: bool = True) -> None:
    """Add the options that say which monitor judges, and how.

    Args:
        parser: Of the command.
        bundle: Whether it is an option as well.
    """
    if bundle:
        parser.add_argument('--bundle', metavar='B',
                            help='folder, or the name of a shipped one (default: that of '
                            '--params, or traffic_signs)')
    parser.add_argument('--params', type=Path, metavar='FILE',
                        help="the node's parameter file: evidence, timeouts, score, region and all")
    parser.add_argument('--node', metavar='NAME',
                        help='name of the node in that file, such as /robot/nav_monitor (default: '
                        '/nav_monitor, or the only nav_monitor in a namespace)')
    parser.add_argument('--trust', action='append', default=[], metavar='PACKAGE',
                        help='allow the bundle to import network code from it; may be repeated')
    parser.add_argument('--backend',
                        help='torch, onnxruntime, openvino or auto (default: that of --params, or '
                        'auto)')
    parser.add_argument('--device', help='auto, cpu or cuda:N (default: that of --params, or auto)')
    parser.add_argument('--threads', type=int, metavar='N',
                        help="the network's threads on the CPU, 0 for one or as many as there are "
                        'cores, whichever measures as faster (default: that of --params, or 1)')


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float('inf'):
        raise argparse.ArgumentTypeError(f"'{text}' is no speed; 0 is as fast as it goes")
    return rate


def replay_bag(
    options: argparse.Namespace, path: Path, monitor: Any = None
) -> tuple[list[str], list[str]]:
    """Replay one bag.

    Args:
        options: Of the command; what it names to be written is this bag's.
        path: Of the bag.
        monitor: Judges; None for one that is made as the options say.

    Returns:
        Lines for a person, and what of the bag could not be read.

    Raises:
        NavMonitorError: Nothing of it can be replayed.
    """
    from nav_monitor_ros.files.output_paths import require_place
    from nav_monitor_ros.files.pictures import write_page
    from nav_monitor_ros.replay.outputs import BagWriter, TableWriter
    from nav_monitor_ros.replay.page import ReplaySummary
    from nav_monitor_ros.replay.replay import replay
    from nav_monitor_ros.runtime.monitor import build_monitor

    values = parameters_of(options)
    settings = settings_of(values)
    if options.overlay and options.output is None:
        raise NavMonitorError('--overlay goes into the bag that --output names')
    check_outputs(options)
    if options.html is not None:
        require_place(options.html)
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
        for event in replay(monitor, bag, settings=settings, told=problems.append):
            pace.wait(event.time_ns)
            for writer in writers:
                writer.write(event)
            summary.add(event)
            progress('images', summary.frames, len(bag))
        seconds = time.monotonic() - start
    unjudged = summary.unjudged and f'; not judged: {summary.unjudged}'
    lines = [
        f'{summary.judged} of {summary.frames} images of {path.name} judged by '
        f'{monitor.bundle.name} in {seconds:.1f} s ({summary.frames / seconds:.0f} a second): '
        f'{summary.flagged} flagged{unjudged}',
        *(f'{topic}: {count} alert{"s" * (count != 1)}'
          for topic, count in summary.alerts.items()),
    ]
    if not summary.judged:
        problems.append(
            f'{path}: 0 of {summary.frames} images judged: {summary.unjudged or "none was read"}')
    if options.html is not None:
        write_page(options.html, summary.page(f'Replay of {path.name}', [
            *lines, *problems]))
    written = [file for file in (options.output, options.csv, options.html) if file is not None]
    return [*lines, *(f'wrote {file}' for file in written)], problems


def check_outputs(options: argparse.Namespace) -> None:
    """Check that what is written are different places, and none that is read.

    Raises:
        NavMonitorError: Two are one, or a file lies in the bag that is going to be written.
    """
    files = {'--csv': options.csv, '--html': options.html}
    check_output_paths(
        {'--output': options.output, **files}, {'the bag': options.bags, '--params': options.params}
    )
    for option, path in files.items():
        if path is not None and options.output is not None and (
            path.resolve().is_relative_to(options.output.resolve())
        ):
            raise NavMonitorError(
                f'{option} {path} lies in the bag {options.output} that is going to be written; '
                'name a place outside of it'
            )


def open_topics(path: Path, wanted: list[str]) -> tuple[Any, list[str]]:
    """Return a bag and the names of the topics that are read, as they stand in it.

    Raises:
        NavMonitorError: The bag cannot be read, a topic is not there, no image is, or no topic is
            named though there are several.
    """
    from nav_monitor_ros.data.bags.bag import open_bag

    bag = open_bag(path, wanted)
    there = [topic.name for topic in bag.image_topics]
    if wanted:
        absolute = {name if name.startswith('/') else f'/{name}' for name in wanted} | {*wanted}
        topics = [name for name in dict.fromkeys(there) if name in absolute]
    else:
        topics = there
    problem = ''
    if len(topics) > 1 and not wanted or not topics:
        shown = ', '.join(there)[:_OVERLONG] or 'none'
        problem = f'say --topic; topics with images: {shown}'
    elif not len(bag):
        damage = f'; it is damaged: {bag.damage}' if bag.damage else ''
        problem = f'there is no image of {", ".join(topics)}{damage}'
    if problem:
        bag.close()
        raise NavMonitorError(f'{path}: {problem}')
    return bag, topics


def parameters_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the node's parameters as a file and the command line give them.

    Raises:
        NavMonitorError: The file cannot be read, or a parameter is wrong.
    """
    from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all

    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    # The node measures which number is fastest; a replay gives the same numbers every time.
    values['torch_threads'] = 1
    values.update({name: value for name, value in _from_file(options).items() if name in BY_NAME})
    given = {
        'bundle': options.bundle, 'backend': options.backend, 'device': options.device,
        'torch_threads': options.threads,
    }
    values.update({name: value for name, value in given.items() if value is not None})
    checked = check_all(values)
    checked['trusted_packages'] += options.trust
    return checked


def warn_of_parameters(options: argparse.Namespace) -> None:
    """Say on stderr which parameters of the file change nothing, as the node does in its log.

    Raises:
        NavMonitorError: The file cannot be read, or a parameter is wrong.
    """
    from nav_monitor_ros.runtime.camera_overrides import known_names
    from nav_monitor_ros.runtime.unknown_parameters import describe_unknown

    given = _from_file(options)
    cameras = [name for name in parameters_of(options)['cameras'] if name]
    names = known_names(cameras)
    lines = describe_unknown(given, **names)
    own = sorted(name for name in given if name in names['known'] and '.' in name)
    if own:
        lines.append(
            f'parameter {own[0]} is not used: a replay judges every topic by the parameters that '
            'all cameras have in common'
        )
    for line in lines:
        print(printable(f'nav_monitor {options.command}: warning: {line}'), file=sys.stderr)


def _from_file(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the parameter file gives to the node, by full name."""
    from nav_monitor_ros.runtime.parameter_file import (
        find_node,
        parameters_for,
        read_parameter_file,
    )

    if options.params is None:
        if options.node is not None:
            raise NavMonitorError('--node says which node of a parameter file; give --params, too')
        return {}
    blocks = read_parameter_file(options.params)
    node = options.node and f'/{options.node.strip("/")}'
    try:
        node = node or find_node(blocks, 'nav_monitor')
    except NavMonitorError as error:
        raise NavMonitorError(f'{options.params}: {error}') from None
    found = parameters_for(blocks, node)
    if found is None:
        there = ', '.join(blocks)[:_OVERLONG] or 'none'
        raise NavMonitorError(
            f'{options.params} has no parameters for {node}, but for: {there}; say which node is '
            'the monitor, --node'
        )
    return found


def settings_of(values: Mapping[str, Any]) -> Any:
    """Return what of the parameters a recording depends on."""
    from nav_monitor_ros.decision.alert_machine import AlertRules
    from nav_monitor_ros.replay.replay import ReplaySettings

    return ReplaySettings(
        AlertRules(**{name: values[name] for name in AlertRules.__dataclass_fields__}),
        tuple(values['roi']), values['max_pixels'], values['blank_contrast'],
    )


class _Pace:
    """Holds a replay back to a multiple of the recording's speed."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._begin: tuple[float, int] | None = None

    def wait(self, time_ns: int) -> None:
        """Wait until this moment of the recording is due."""
        if not self._rate:
            return
        now = time.monotonic()
        begin, begin_ns = self._begin = self._begin or (now, time_ns)
        due = begin + (time_ns - begin_ns) / 1e9 / self._rate
        if due > now:
            sys.stdout.flush()
            time.sleep(due - now)
