"""``nav_monitor view tuning``: the page of a recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say
from nav_monitor_ros.cli.options.device_and_threads import add_seed
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.errors import NavMonitorError


def add_tuning(views: Any) -> None:
    """Add the view."""
    parser = views.add_parser(
        'tuning', help='show which classes drive each component in the course of training',
        description='Make one HTML page of a recording: the components of each layer, coloured by '
        'the class that\ndrives them most (hue) and by their selectivity (saturation), with a '
        'slider over the checkpoints.\nGrey: not above the level of permuted labels. Hatched: dead '
        'units.',
        epilog='example:\n  nav_monitor train digits --record-tuning tuning --output my_digits\n'
        '  nav_monitor view tuning tuning --output tuning.html',
    )
    parser.add_argument('recording', type=Path, metavar='DIR',
                        help='recording of `nav_monitor tuning record` or `train --record-tuning`')
    parser.add_argument('--permutations', type=int, default=100, metavar='N',
                        help='number of label permutations that decide which components are grey; '
                        '0: none are (default: 100)')
    add_seed(parser, 'seed of the permutations')
    parser.add_argument('--output', required=True, type=Path, metavar='FILE.html')
    parser.set_defaults(run=_view)


def _view(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_page
    from nav_monitor_ros.tuning.recording_files import TuningRecording
    from nav_monitor_ros.tuning.tuning_page import tuning_page

    require_suffix([options.output], ('.html',))
    check_outputs(options, {'--output': options.output})
    if options.permutations < 0:
        raise NavMonitorError(f'--permutations {options.permutations}: must not be negative')
    recording = TuningRecording.open(options.recording)
    with ProgressBars() as progress:
        page, lines = tuning_page(
            recording, permutations=options.permutations, seed=options.seed, progress=progress
        )
    write_page(options.output, page)
    for line in lines:
        say(line)
    say(f'wrote {options.output}')
