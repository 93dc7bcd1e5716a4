"""The command ``nav_monitor tuning``: record which classes drive each component in training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say
from nav_monitor_ros.cli.options.device_and_threads import add_device, add_threads, add_trust
from nav_monitor_ros.cli.options.network import (
    add_network,
    add_preprocessing,
    class_names_of,
    names_are_assumed,
    network_of,
    preprocess_of,
    refuse_network_options,
)
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.recorded_tuning import add_recorded, recorded_options
from nav_monitor_ros.cli.options.sources import opened, say_how_matched
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_folder import require_writable_folder
from nav_monitor_ros.files.output_paths import is_same_file


def add_tuning(commands: Any) -> None:
    """Add the command that records class tuning."""
    tuning = commands.add_parser(
        'tuning',
        help='record which classes drive each component of a network in the course of training',
        description='Record, for each checkpoint, how each component of a network responds to the '
        'images of each\nclass. `nav_monitor view tuning` makes a page of the recording; '
        '`nav_monitor train\n--record-tuning` records during training.',
        epilog='example:\n  nav_monitor tuning record digits --weights first.safetensors '
        '--weights last.safetensors \\\n      --images sample:digits --output tuning',
    )
    actions = tuning.add_subparsers(dest='action', required=True, metavar='ACTION')
    _add_record(actions)
    _add_merge(actions)


def _add_record(actions: Any) -> None:
    record = actions.add_parser(
        'record', help='run images through a list of checkpoints',
        description='Run images through every checkpoint of a network, once. Only counts, sums and '
        "histograms are\nkept, and the images that drive a component most. The network is a "
        "bundle's, or any that\n`fit` accepts. The same command resumes an interrupted recording.",
        epilog='example:\n  nav_monitor tuning record --model torchvision:resnet18 --model-arg '
        'num_classes=12 \\\n      --weights epoch1.pth --weights epoch2.pth --size 224x224 '
        '--images photos/train \\\n      --output tuning',
    )
    record.add_argument('bundle', nargs='?',
                        help='bundle with the network: folder, or name of a shipped bundle')
    add_network(record, required=False, several=True)
    images = record.add_argument_group('images')
    images.add_argument('--images', required=True, metavar='SOURCE',
                        help='images, as for `fit`; without labels, only results for predicted '
                        'classes are shown')
    add_preprocessing(images)
    add_recorded(record)
    add_trust(record)
    add_device(record)
    add_threads(record)
    record.add_argument('--output', required=True, type=Path, metavar='DIR', help='the recording')
    record.set_defaults(run=_record)


def _record(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.data.class_matching import chance_note
    from nav_monitor_ros.inspection.inspected_network import view_network
    from nav_monitor_ros.tuning.recorder import TuningRecorder, record_checkpoints

    if options.bundle is None and options.model is None:
        raise NavMonitorError('name a bundle, or a network with --model')
    if options.bundle is not None:
        refuse_network_options(options, allowed=('weights',))
    if not options.weights:
        raise NavMonitorError('give the checkpoints: --weights FILE --weights FILE ...')
    names_of_checkpoints = _names(options.weights)
    check_outputs(options, {}, folders={'--output': options.output})
    require_writable_folder(options.output)
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
        for name, path in zip(names_of_checkpoints, options.weights, strict=True)
    ]
    with ProgressBars() as progress:
        recorded = record_checkpoints(recorder, checkpoints, progress)
    say_how_matched(source, first.class_names, assumed=names_are_assumed(options))
    warning = chance_note(max(recorder.accuracies, default=None), len(first.class_names))
    if warning:
        say(warning)
    if recorded:
        say(f'wrote {options.output}')
    else:
        say(f'{options.output} already has all of these checkpoints; nothing was recorded')


def _names(paths: list[Path]) -> list[str]:
    """Return names for the checkpoints: those of their files, or paths if the names repeat.

    Raises:
        NavMonitorError: Two paths are the same file.
    """
    for number, path in enumerate(paths):
        if any(is_same_file(path, other) for other in paths[:number]):
            raise NavMonitorError(f'--weights {path} is given twice; name each checkpoint once')
    names = [path.stem for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _add_merge(actions: Any) -> None:
    merge = actions.add_parser(
        'merge', help='merge recordings of parts of the images',
        description='Merge recordings of the same checkpoints over disjoint parts of one source.',
        epilog='example:\n  nav_monitor tuning merge first_half second_half --output whole',
    )
    merge.add_argument('recordings', nargs='+', type=Path, metavar='DIR',
                       help='recordings to merge, at least two')
    merge.add_argument('--output', required=True, type=Path, metavar='DIR',
                       help='the merged recording')
    merge.set_defaults(run=_merge)


def _merge(options: argparse.Namespace) -> None:
    from nav_monitor_ros.tuning.recorder import merge_recordings

    if len(options.recordings) < 2:
        raise NavMonitorError('name at least two recordings')
    check_outputs(options, {}, folders={'--output': options.output})
    require_writable_folder(options.output)
    with ProgressBars() as progress:
        merge_recordings(options.recordings, options.output, progress)
    say(f'wrote {options.output}')
