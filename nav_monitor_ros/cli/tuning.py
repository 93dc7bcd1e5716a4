"""``nav_monitor tuning`` and ``view tuning``: which classes drive each component, over training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.network_options import (
    add_network,
    add_preprocessing,
    class_names_of,
    network_of,
    preprocess_of,
)
from nav_monitor_ros.cli.output import ProgressBars, opened, say
from nav_monitor_ros.errors import NavMonitorError

_FORMATS = argparse.RawDescriptionHelpFormatter


def add_tuning(commands: Any) -> None:
    """Add the command that records class tuning."""
    tuning = commands.add_parser(
        'tuning',
        help='record which classes drive each component of a network, over training',
        formatter_class=_FORMATS,
        description='Record, checkpoint by checkpoint, what each component of a network answers to '
        'the images of\neach class. `nav_monitor view tuning` makes a page of it; `nav_monitor '
        'train --record-tuning`\nrecords while it trains.',
        epilog='example:\n  nav_monitor tuning record digits --weights first.safetensors '
        '--weights last.safetensors \\\n      --images sample:digits --output tuning',
    )
    actions = tuning.add_subparsers(dest='action', required=True, metavar='ACTION')
    _add_record(actions)
    _add_merge(actions)


def _add_record(actions: Any) -> None:
    record = actions.add_parser(
        'record', help='run images through a list of checkpoints', formatter_class=_FORMATS,
        description='Run images through every checkpoint of a network, once. Only counts, sums and '
        "histograms are\nkept, and which images drive a component most. The network is a bundle's, "
        'or any that `fit`\ntakes. What was recorded before an interruption is not recorded again.',
        epilog='example:\n  nav_monitor tuning record --model torchvision:resnet18 --model-arg '
        'num_classes=12 \\\n      --weights epoch1.pth --weights epoch2.pth --size 224x224 '
        '--images photos/train \\\n      --output tuning',
    )
    record.add_argument('bundle', nargs='?',
                        help='a bundle whose network it is: folder, or the name of a shipped one')
    add_network(record, required=False, several=True)
    images = record.add_argument_group('images')
    images.add_argument('--images', required=True, metavar='SOURCE',
                        help='images, as `fit` takes them; without labels only what the network '
                        'predicts is shown')
    add_preprocessing(images)
    add_recorded(record)
    record.add_argument('--trust', action='append', default=[], metavar='PACKAGE',
                        help='allow the bundle to import network code from it; may be repeated')
    record.add_argument('--device', default='auto', help='auto, cpu or cuda:N (default: auto)')
    record.add_argument('--threads', type=int, default=1,
                        help="torch's threads on the CPU, 0 for its own choice (default: 1)")
    record.add_argument('--output', required=True, type=Path, metavar='DIR', help='the recording')
    record.set_defaults(run=_record)


def add_recorded(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is recorded."""
    recorded = parser.add_argument_group('class tuning')
    recorded.add_argument('--layer', action='append', default=[], metavar='NAME|NUMBER',
                          help='penultimate and output are layers too; may be repeated (default: '
                          'the last layer of each resolution, penultimate, output)')
    recorded.add_argument('--components', type=int, default=256, metavar='N',
                          help='of a layer at most, evenly chosen (default: 256)')
    recorded.add_argument('--response', choices=('max', 'mean'), default='max',
                          help='of a channel, over its positions (default: max)')


def recorded_options(options: argparse.Namespace) -> Any:
    """Return what the options of ``add_recorded`` ask for."""
    from nav_monitor_ros.tuning.recorder import TuningOptions

    return TuningOptions(tuple(options.layer), options.components, options.response)


def add_watch(train: argparse.ArgumentParser) -> None:
    """Add the options that record class tuning while a network is trained."""
    train.add_argument('--record-tuning', type=Path, metavar='DIR',
                       help='record class tuning while training, for `view tuning`; the weights '
                       'of each checkpoint go to DIR/weights')
    train.add_argument('--record-every', type=float, default=1.0, metavar='EPOCHS',
                       help='such as 0.25 (default: 1)')


def watch_of(options: argparse.Namespace, progress: Any) -> Any:
    """Return who looks at the network that is trained, or None where nothing is recorded.

    Raises:
        NavMonitorError: The options cannot be met.
    """
    if options.record_tuning is None:
        return None
    from nav_monitor_ros.fitting.train import TASKS, Watch
    from nav_monitor_ros.tuning.recorded_training import RecordedTraining
    from nav_monitor_ros.tuning.recorder import TuningOptions

    if options.weights is not None:
        raise NavMonitorError('--record-tuning records a training; with --weights there is none')
    if not options.record_every > 0:
        raise NavMonitorError(f'--record-every {options.record_every}: must be above 0')
    task = TASKS[options.task]
    recorded = RecordedTraining(
        options.record_tuning, options.task, task.preprocess, task.class_names, TuningOptions(),
        background=-1 if options.decoy else None, threads=options.threads, progress=progress,
    )
    return Watch(options.record_every, recorded.look)


def _record(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.data.labels import how_matched
    from nav_monitor_ros.inspection.inspected_network import view_network
    from nav_monitor_ros.tuning.recorder import TuningRecorder, record_checkpoints

    if (options.bundle is None) == (options.model is None):
        raise NavMonitorError('name a bundle, or a network with --model')
    if not options.weights:
        raise NavMonitorError('give the checkpoints: --weights FILE --weights FILE ...')
    source = opened(options.images)
    if options.bundle is not None:
        bundle = load_bundle(options.bundle)
        names: tuple[str, ...] | None = bundle.class_names
        spec, preprocess = bundle.network, bundle.preprocess
        trusted, background, title = options.trust, bundle.background, bundle.name
    else:
        spec = network_of(options)
        trusted, background, title = None, None, options.model
        preprocess, names = preprocess_of(options), class_names_of(options.classes)

    def load(weights: Path) -> Any:
        return view_network(
            spec, weights, preprocess, class_names=names, source=source, device=options.device,
            threads=options.threads, background=background, trusted_packages=trusted,
        )

    first = load(options.weights[0])
    recorder = TuningRecorder(
        options.output, first.classifier, source, first.class_names, recorded_options(options),
        network=title,
    )
    checkpoints = [
        (name, lambda path=path: load(path).classifier)
        for name, path in zip(_names(options.weights), options.weights, strict=True)
    ]
    with ProgressBars() as progress:
        recorded = record_checkpoints(recorder, checkpoints, progress)
    note = how_matched(source, first.class_names)
    if note:
        say(note)
    if recorded:
        say(f'wrote {options.output}')
    else:
        say(f'{options.output} has all these checkpoints already; nothing was recorded')


def _names(paths: list[Path]) -> list[str]:
    """Return what the checkpoints are called: their files' names, or paths where those repeat."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise NavMonitorError('the same checkpoint is given twice')
    return names


def _add_merge(actions: Any) -> None:
    merge = actions.add_parser(
        'merge', help='merge recordings of parts of the images', formatter_class=_FORMATS,
        description='Merge recordings of the same checkpoints over disjoint parts of one source.',
        epilog='example:\n  nav_monitor tuning merge first_half second_half --output whole',
    )
    merge.add_argument('recordings', nargs='+', type=Path, metavar='DIR')
    merge.add_argument('--output', required=True, type=Path, metavar='DIR')
    merge.set_defaults(run=_merge)


def _merge(options: argparse.Namespace) -> None:
    from nav_monitor_ros.tuning.recorder import merge_recordings

    if len(options.recordings) < 2:
        raise NavMonitorError('name at least two recordings')
    with ProgressBars() as progress:
        merge_recordings(options.recordings, options.output, progress)
    say(f'wrote {options.output}')


def add_view_tuning(views: Any) -> None:
    """Add the view that makes a page of a recording."""
    parser = views.add_parser(
        'tuning', help='which classes drive each component, over training',
        formatter_class=_FORMATS,
        description='Make one HTML page of a recording: the components of each layer coloured by '
        'the class that\ndrives them most (hue) and how selectively (saturation), with a slider '
        'over the checkpoints.\nGrey: no more than labels that mean nothing reach. Hatched: dead.',
        epilog='example:\n  nav_monitor train digits --record-tuning tuning --output my_digits\n'
        '  nav_monitor view tuning tuning --output tuning.html',
    )
    parser.add_argument('recording', type=Path, metavar='DIR',
                        help='made by `nav_monitor tuning record` or `train --record-tuning`')
    parser.add_argument('--permutations', type=int, default=100, metavar='N',
                        help='of the labels, for what is grey; 0 for nothing (default: 100)')
    parser.add_argument('--seed', type=int, default=0, help='of the permutations (default: 0)')
    parser.add_argument('--output', required=True, type=Path, metavar='FILE.html')
    parser.set_defaults(run=_view)


def _view(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_page
    from nav_monitor_ros.tuning.recording_files import TuningRecording
    from nav_monitor_ros.tuning.tuning_page import tuning_page

    require_suffix([options.output], ('.html',))
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
