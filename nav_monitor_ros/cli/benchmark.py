"""The command ``nav_monitor benchmark``: measurements of speed on this machine."""

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
    """Option of one benchmark, which is a keyword argument of its function."""

    name: str  # of the argument; the option has hyphens instead of underscores
    default: Any
    text: str

    @property
    def help(self) -> str:
        """Help text with the default value."""
        return self.text if self.default == '' else f'{self.text} (default: {self.default})'

    @property
    def flag(self) -> str:
        """Name of the option on the command line."""
        return '--' + self.name.replace('_', '-')


@dataclass(frozen=True)
class Benchmark:
    """Benchmark whose function is imported when it is run, because most of them need torch."""

    summary: str
    function: str  # module:name; takes the options and progress, returns benchmark.result.Result
    options: tuple[Option, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Return the function.

        Raises:
            ImportError: It needs something that is not installed, such as ROS 2.
        """
        module, _, name = self.function.partition(':')
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found


_THREADS = Option('threads', 1, "torch's threads")

_NODE_OPTIONS = (
    Option('seconds', 2.0, 'duration of the test of each rate'),
    Option('classes', 43, 'number of classes of the network'),
    Option('backends', '', 'comma-separated names, or all (default: torch and the fastest other)'),
    Option('threads', 0, 'threads of the monitor and the bare node; 0: the monitor measures '
           'which number is fastest'),
    Option('grid', 1, '1: measure with subscribed activation maps as well'),
    Option('peer', '', "the baseline node's script (default: the one in the checkout)"),
)

BENCHMARKS: Mapping[str, Benchmark] = {
    'judge': Benchmark(
        'the scores and the verdict of one frame, relative to the forward pass',
        'nav_monitor_ros.benchmark.judging:judge_benchmark',
        (
            Option('features', 512, 'number of monitored neurons'),
            Option('patterns', 5000, 'number of stored patterns per class'),
            Option('classes', 43, 'number of classes of the network'),
            Option('frames', 2000, 'number of frames, each timed alone'),
            _THREADS,
        ),
    ),
    'fit': Benchmark(
        'fitting from images on disk, relative to the bare forward pass',
        'nav_monitor_ros.benchmark.fitting:fit_benchmark',
        (
            Option('images', 256, 'number of 640 x 480 JPEG images in each of three rounds'),
            Option('size', 224, "rows and columns of the network's input"),
            Option('network', 'resnet18', 'torchvision model'),
            Option('workers', 0, 'threads that decode images; 0: one fewer than the cores'),
            Option('device', 'auto', 'device that runs the network'),
            _THREADS,
        ),
    ),
    'replay': Benchmark(
        'the replay of a bag, relative to the network alone on the same frames',
        'nav_monitor_ros.benchmark.replaying:replay_benchmark',
        (
            Option('frames', 150, 'number of 640 x 480 JPEG images in each of five rounds'),
            Option('bundle', '', 'folder or name of a shipped bundle (default: a bundle fitted to '
                   '--network)'),
            Option('network', 'resnet18', 'torchvision model, with random weights'),
            Option('device', 'auto', 'device that runs the network'),
            _THREADS,
        ),
    ),
    'node': Benchmark(
        'a complete node over DDS, relative to a hand-written node',
        'nav_monitor_ros.ros.benchmark.node:node_benchmark', _NODE_OPTIONS,
    ),
    'startup': Benchmark(
        'start-up time, and CPU use without a camera',
        'nav_monitor_ros.ros.benchmark.startup:startup_benchmark',
        (
            Option('bundle', 'traffic_signs', "the monitor's bundle"),
            Option('runs', 5, 'number of starts'),
            Option('seconds', 10.0, 'time without a camera over which CPU use is measured'),
        ),
    ),
    'gpu': Benchmark(
        'the monitor on a GPU, relative to the bare network there; its scores, relative to the CPU',
        'nav_monitor_ros.benchmark.gpu:gpu_benchmark',
        (
            Option('network', 'resnet18', 'torchvision model, with random weights'),
            Option('frames', 60, 'number of frames in each of five rounds'),
            Option('compared', 100, 'number of images whose verdicts are compared'),
        ),
    ),
    'views': Benchmark(
        'drawing the live pictures',
        'nav_monitor_ros.benchmark.drawing:views_benchmark',
        (Option('frames', 2000, 'number of timed frames per picture'),),
    ),
    'patterns': Benchmark(
        'the search for the nearest of very many patterns, relative to BDDs and float neighbours',
        'nav_monitor_ros.benchmark.pattern_search:patterns_benchmark',
        (
            Option('patterns', 1_000_000, 'number of patterns, all of one class'),
            Option('bits', 512, 'number of bits per pattern'),
            Option('queries', 200, 'number of queries of each kind'),
            Option('others', 1, '1: measure BDDs and float neighbours as well'),
        ),
    ),
}


def add_benchmark(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'benchmark',
        help='measure the speed of judging, drawing, fitting and replay on this machine',
        description='Measure the speed on this machine, relative to a reference in the same run.',
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
        ALL, help='all benchmarks in turn, with their defaults',
        description='Run every benchmark in turn, with its defaults. A benchmark that cannot run '
        'here is skipped with a message.',
        epilog='example:\n  nav_monitor benchmark all --json benchmarks.json',
    )
    _add_output(every)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', type=Path, metavar='FILE',
                        help='write the measurements and a description of the machine to FILE')
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
            except (NavMonitorError, ImportError) as error:  # for example without ROS 2
                table_console().print(f'{name} is skipped: {error}')
    if options.json is not None:
        write_json(options.json, content)


def _run(benchmark: Benchmark, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Run a benchmark, print its tables and return its measurements."""
    with ProgressBars() as progress:
        result = benchmark.load()(**chosen, progress=progress)
    console = table_console()
    for table in result.tables():
        console.print(table)
    content: dict[str, Any] = result.to_dict()
    return content
