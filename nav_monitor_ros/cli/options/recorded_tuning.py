"""Options for recording class tuning, of ``tuning record`` and of ``train``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.errors import NavMonitorError


def add_recorded(parser: argparse.ArgumentParser) -> None:
    """Add the options that select what is recorded."""
    recorded = parser.add_argument_group('class tuning')
    recorded.add_argument('--layer', action='append', default=[], metavar='NAME|NUMBER',
                          help='layer to record: name, 1-based number, penultimate or output; may '
                          'be repeated (default: the last layer of each resolution, penultimate, '
                          'output)')
    recorded.add_argument('--components', type=int, default=256, metavar='N',
                          help='largest number of components per layer, evenly spaced (default: '
                          '256)')
    recorded.add_argument('--response', choices=('max', 'mean'), default='max',
                          help="how a channel's response is computed from its positions (default: "
                          'max)')


def recorded_options(options: argparse.Namespace) -> Any:
    """Convert the options of ``add_recorded``."""
    from nav_monitor_ros.tuning.recorder import TuningOptions

    return TuningOptions(tuple(options.layer), options.components, options.response)


def add_watch(train: argparse.ArgumentParser) -> None:
    """Add the options that record class tuning while a network is trained."""
    train.add_argument('--record-tuning', type=Path, metavar='DIR',
                       help='record class tuning while training, for `view tuning`; the weights '
                       'of each checkpoint go to DIR/weights. The same command resumes an '
                       'interrupted recording; --force starts over')
    train.add_argument('--record-every', type=float, default=1.0, metavar='EPOCHS',
                       help='epochs between two checkpoints, such as 0.25 (default: 1)')


def watch_of(options: argparse.Namespace, progress: Any) -> Any:
    """Return the callback that records class tuning in training; None if nothing is recorded.

    Raises:
        NavMonitorError: The options contradict each other, or one is out of range.
    """
    if options.record_tuning is None:
        return None
    from nav_monitor_ros.fitting.train import TASKS, Watch
    from nav_monitor_ros.tuning.recorded_training import RecordedTraining
    from nav_monitor_ros.tuning.recorder import TuningOptions

    if options.weights is not None:
        raise NavMonitorError('--record-tuning records the training, but --weights skips it; leave '
                              'out one of them')
    if not options.record_every > 0:
        raise NavMonitorError(f'--record-every {options.record_every}: must be above 0')
    task = TASKS[options.task]
    recorded = RecordedTraining(
        options.record_tuning, options.task, task.preprocess, task.class_names, TuningOptions(),
        background=-1 if options.decoy else None, replace=options.force,
        threads=options.threads, progress=progress,
    )
    return Watch(options.record_every, recorded.look)
