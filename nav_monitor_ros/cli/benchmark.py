"""``nav_monitor benchmark``: what costs how much on this machine."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, table_console, write_json
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.errors import NavMonitorError

ALL = 'all'


@dataclass(frozen=True)
class Option:
    """An option of one benchmark, the keyword argument of its function."""

    name: str  # of the argument; the option has hyphens for underscores
    default: Any
    text: str

    @property
    def help(self) -> str:
        """Return the text with the default."""
        return self.text if self.default == '' else f'{self.text} (default: {self.default})'

    @property
    def flag(self) -> str:
        """Return how it is written on the command line."""
        return '--' + self.name.replace('_', '-')


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's function is, which is imported when it is run: most need torch."""

    summary: str
    function: str  # module:name; takes the options and progress, returns offline.benchmark.Result
    options: tuple[Option, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Return the function.

        Raises:
            ImportError: It needs what is not installed, such as ROS 2.
        """
        module, _, name = self.function.partition(':')
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found


_THREADS = Option('threads', 1, 'of torch')

_NODE_OPTIONS = (
    Option('seconds', 2.0, 'for each rate that is tried'),
    Option('classes', 43, 'of the network'),
    Option('backends', '', 'with commas, or all (default: torch and the fastest other)'),
    Option('threads', 0, 'of the monitor and the bare node; 0: the monitor measures'),
    Option('grid', 1, '1 measures with activation maps watched too'),
    Option('peer', '', "the peer node's script (default: that of the checkout)"),
)

BENCHMARKS: Mapping[str, Benchmark] = {
    'judge': Benchmark(
        'the scores and the whole verdict of one frame, against the forward pass',
        'nav_monitor_ros.benchmark.judging:judge_benchmark',
        (
            Option('features', 512, 'monitored neurons'),
            Option('patterns', 5000, 'stored for each class'),
            Option('classes', 43, 'of the network'),
            Option('frames', 2000, 'timed, each alone'),
            _THREADS,
        ),
    ),
    'fit': Benchmark(
        'fitting from pictures on disk, against the bare forward pass',
        'nav_monitor_ros.benchmark.fitting:fit_benchmark',
        (
            Option('images', 256, 'JPEGs of 640 x 480 in each of three rounds'),
            Option('size', 224, "rows and columns of the network's input"),
            Option('network', 'resnet18', 'of torchvision'),
            Option('workers', 0, 'threads that decode, 0 for one fewer than there are cores'),
            Option('device', 'auto', 'where the network runs'),
            _THREADS,
        ),
    ),
    'replay': Benchmark(
        'the replay of a bag, against the network alone on the same frames',
        'nav_monitor_ros.benchmark.replaying:replay_benchmark',
        (
            Option('frames', 150, 'JPEGs of 640 x 480, in each of five rounds'),
            Option('bundle', '', 'folder or shipped name; else one is fitted to --network'),
            Option('network', 'resnet18', 'of torchvision, with random weights'),
            Option('device', 'auto', 'where the network runs'),
            _THREADS,
        ),
    ),
    'node': Benchmark(
        'a whole node over DDS against the node that one writes by hand',
        'nav_monitor_ros.ros.benchmark.node:node_benchmark', _NODE_OPTIONS,
    ),
    'startup': Benchmark(
        'how soon the node is there, and what it uses while no camera speaks',
        'nav_monitor_ros.ros.benchmark.startup:startup_benchmark',
        (
            Option('bundle', 'traffic_signs', 'of the monitor'),
            Option('runs', 5, 'how often it is started'),
            Option('seconds', 10.0, 'of waiting for a camera'),
        ),
    ),
    'gpu': Benchmark(
        'the monitor on a GPU against the bare network there, and its scores against the CPU',
        'nav_monitor_ros.benchmark.gpu:gpu_benchmark',
        (
            Option('network', 'resnet18', 'of torchvision, with random weights'),
            Option('frames', 60, 'in each of five rounds'),
            Option('compared', 100, 'images on which verdicts are compared'),
        ),
    ),
    'views': Benchmark(
        'drawing the live pictures',
        'nav_monitor_ros.benchmark.drawing:views_benchmark',
        (Option('frames', 2000, 'timed of each picture'),),
    ),
    'patterns': Benchmark(
        'finding the nearest of very many patterns, against BDDs and float neighbours',
        'nav_monitor_ros.benchmark.pattern_search:patterns_benchmark',
        (
            Option('patterns', 1_000_000, 'of one class'),
            Option('bits', 512, 'of a pattern'),
            Option('queries', 200, 'of each kind'),
            Option('others', 1, '1 measures BDDs and float neighbours, too'),
        ),
    ),
}


def add_benchmark(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'benchmark',
        help='measure what judging, drawing and all else costs on this machine',
        description='Measure on this machine, against a reference in the same run.',
        epilog='examples:\n  nav_monitor benchmark judge --features 512 --patterns 5000\n'
        '  nav_monitor benchmark all --json benchmarks.json',
    )
    parsers = parser.add_subparsers(dest='what', required=True, metavar='WHAT')
    for name, benchmark in BENCHMARKS.items():
        one = parsers.add_parser(
            name, help=benchmark.summary,
            description=f'Measure {benchmark.summary}.',
            epilog=f'example:\n  nav_monitor benchmark {name} --json {name}.json',
        )
        for option in benchmark.options:
            one.add_argument(
                option.flag, dest=option.name, type=type(option.default), default=option.default,
                metavar='N' if isinstance(option.default, (int, float)) else 'TEXT',
                help=option.help,
            )
        _add_output(one)
    every = parsers.add_parser(
        ALL, help='all of them in turn, with their defaults',
        description='Run every benchmark in turn, with its defaults. One that cannot run here is '
        'named and left out.',
        epilog='example:\n  nav_monitor benchmark all --json benchmarks.json',
    )
    _add_output(every)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', type=Path, metavar='FILE',
                        help='write the figures there, with the facts of the machine')
    parser.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> None:
    check_outputs(options, {'--json': options.json})
    if options.what != ALL:
        benchmark = BENCHMARKS[options.what]
        chosen = {option.name: getattr(options, option.name) for option in benchmark.options}
        content = _run(benchmark, chosen)
    else:
        content = {'benchmarks': {}}
        for name, benchmark in BENCHMARKS.items():
            try:
                content['benchmarks'][name] = _run(benchmark, {})
            except (NavMonitorError, ImportError) as error:  # no ROS 2 here, for one
                table_console().print(f'{name} is left out: {error}')
    if options.json is not None:
        write_json(options.json, content)


def _run(benchmark: Benchmark, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Run a benchmark, print its tables and return its figures."""
    with ProgressBars() as progress:
        result = benchmark.load()(**chosen, progress=progress)
    console = table_console()
    for table in result.tables():
        console.print(table)
    content: dict[str, Any] = result.to_dict()
    return content
