"""The command ``nav_monitor fit``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say
from nav_monitor_ros.cli.export import export_bundle
from nav_monitor_ros.cli.options.bundle import add_backends, add_force, listed
from nav_monitor_ros.cli.options.device_and_threads import add_running
from nav_monitor_ros.cli.options.network import (
    add_network,
    add_preprocessing,
    class_names_of,
    network_of,
    preprocess_of,
)
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.ray import add_ray, cluster_of
from nav_monitor_ros.cli.options.scores import add_fusion, scores_to_fit, scores_to_fuse
from nav_monitor_ros.cli.options.sources import SOURCE, opened
from nav_monitor_ros.errors import NavMonitorError, describe_import_error
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS
from nav_monitor_ros.perception.network.working_folder import folder_of

LOST_ACCURACY = 0.2  # by which that on calibration images may be lower before fit warns
EXPECTED_ACCURACY = 0.9  # share of correctly classified training images below which fit warns


def add_fit(commands: Any) -> None:
    """Add the command."""
    fit = commands.add_parser(
        'fit',
        help='fit a monitor to a trained network',
        description=f'Fit a monitor to a trained network and write a bundle.\n\n{SOURCE}.',
        epilog='example:\n'
        '  nav_monitor fit --model torchvision:resnet18 --model-arg num_classes=12 \\\n'
        '      --weights resnet18.pth --data photos/train --calibration photos/held_out \\\n'
        '      --size 224x224 --fit center_crop --resize-to 256 --output bundles/resnet18\n'
        '  and from a bag, labelled by a CSV with lines such as 12.5,31,crossing:\n'
        "      --data 'drive:/camera/image_raw?labels=drive.csv' \\\n"
        "      --calibration 'other_drive:/camera/image_raw?labels=other.csv&group=5'",
    )
    network = add_network(fit, required=True)
    network.add_argument('--layer', default='penultimate',
                         help='layer to monitor: name or 1-based number (default: penultimate)')
    network.add_argument('--background', type=int, metavar='INDEX',
                         help='index of the background class, if the network was trained with '
                         'one, such as -1 for the last output')
    images = fit.add_argument_group('images')
    images.add_argument('--data', required=True, metavar='SOURCE',
                        help="training images; without labels, the network's predictions are used")
    images.add_argument('--calibration', required=True, metavar='SOURCE',
                        help='held-out in-distribution images')
    add_preprocessing(images)
    monitor = fit.add_argument_group('monitor')
    monitor.add_argument('--scores', metavar='A,B,...', help='scores to fit (default: all)')
    monitor.add_argument('--fuse', metavar='A,B,...',
                         help=f'members of the fused score (default: {",".join(FUSED_MEMBERS)})')
    add_fusion(monitor)
    monitor.add_argument('--option', action='append', default=[], metavar='SCORE.KEY=VALUE',
                         help='option of a score, such as pattern.select=0.25; may be repeated')
    monitor.add_argument('--list-options', action=_ListOptions, nargs=0,
                         help='list the options of all scores with defaults and ranges, and exit')
    monitor.add_argument('--false-alarm-rate', type=float, default=0.01,
                         help='largest share of in-distribution frames that may be flagged '
                         '(default: 0.01)')
    monitor.add_argument('--confidence', type=float, default=0.95,
                         help='confidence with which that rate holds (default: 0.95)')
    monitor.add_argument('--class-images', type=int, metavar='N',
                         help='smallest number of calibration images for which a class is '
                         'calibrated separately (default: enough to use half of the budget; 779 '
                         'for 1 %%)')
    monitor.add_argument('--name', help="the bundle's name (default: the output folder's)")
    monitor.add_argument('--skip-invalid', action='store_true',
                         help='leave out images for which the network returns NaN or infinity; '
                         'without this option the first such image is an error')
    add_backends(monitor, '--export', None)
    add_running(fit)
    add_ray(fit, parts='training images')
    keeping = fit.add_argument_group('long work')
    keeping.add_argument('--checkpoint', type=Path, metavar='DIR',
                         help='save progress in DIR; after an interruption, the same command '
                         'resumes and writes the same bundle')
    keeping.add_argument('--checkpoint-seconds', type=float, default=60.0, metavar='S',
                         help='time between two checkpoints (default: 60)')
    fit.add_argument('--output', required=True, type=Path, metavar='DIR', help='the bundle')
    add_force(fit)
    fit.set_defaults(run=_fit)


class _ListOptions(argparse.Action):
    """Action that prints the options of the scores and exits, as ``--help`` does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option_string: str | None = None,
    ) -> None:
        from nav_monitor_ros.scores.option_tables import plain_text

        parser._print_message(f'{plain_text()}\n', sys.stdout)
        parser.exit()


def _fit(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.bundle_files import written_files
    from nav_monitor_ros.bundle.model_card import model_card
    from nav_monitor_ros.bundle.output_folder import check_foreign, check_output
    from nav_monitor_ros.bundle.saving import save_bundle
    from nav_monitor_ros.data.class_matching import naming_note
    from nav_monitor_ros.fitting.fit import fit
    from nav_monitor_ros.fitting.fit_checkpoint import FitCheckpoint
    from nav_monitor_ros.perception.network.loading import start_network

    spec = network_of(options)
    preprocess = preprocess_of(options)
    choices = _fit_options(options)
    check_outputs(
        options, {}, folders={'--output': options.output, '--checkpoint': options.checkpoint})
    check_output(
        options.output, force=options.force, outside={'--checkpoint': options.checkpoint},
        writes=written_files(spec.spec, choices.class_names or (), exported=bool(options.export)),
    )
    checkpoint = None
    if options.checkpoint is not None:
        if options.ray:
            raise NavMonitorError('--checkpoint works on one machine only; with --ray, if a worker '
                                  'dies, only its part is repeated')
        checkpoint = FitCheckpoint(options.checkpoint, options.checkpoint_seconds)
    data, calibration = opened(options.data), opened(options.calibration)
    check_foreign(
        options.output, written_files(spec.spec, choices.class_names or data.class_names or ())
    )
    classifier = start_network(
        spec, options.weights, preprocess, layer=options.layer, background=options.background,
        device=options.device, threads=options.threads,
    )
    if options.export:
        from nav_monitor_ros.fitting.engine_export import engines_for

        engines_for(listed(options.export), classifier.engine, '--export')
    with cluster_of(options) as cluster, ProgressBars() as progress:
        remote_fit = None
        if cluster is not None:
            from nav_monitor_ros.cluster.fitting import NetworkRecipe, RayFit

            remote_fit = RayFit(
                cluster,
                NetworkRecipe(
                    spec, _weights_of(spec, options.weights, classifier), options.weights.suffix,
                    preprocess,
                    options.layer, options.background, options.device, options.threads,
                ),
                options.data, part=options.ray_part, workers=options.workers or None,
                skip_invalid=options.skip_invalid,
            )
        bundle = fit(
            classifier, spec, data, calibration, choices, workers=options.workers or None,
            checkpoint=checkpoint, remote_fit=remote_fit, progress=progress,
            provenance={
                'weights': options.weights.name.encode(errors='backslashreplace').decode(),
            },
        )
    save_bundle(
        bundle, classifier, options.output, card=model_card(bundle), force=options.force
    )
    if checkpoint is not None:
        if checkpoint.resumed_at is not None:
            say(f'resumed an interrupted fit at image {checkpoint.resumed_at}')
        checkpoint.discard()
    not_exported = ''
    if options.export:
        try:
            bundle = export_bundle(
                options.output, options.export, calibration, options.output,
                trusted_packages=[spec.package], threads=options.threads, seed=options.seed,
            )
        except (NavMonitorError, ImportError) as error:  # the fit is complete without it
            not_exported = (
                describe_import_error(error) if isinstance(error, ImportError) else str(error))
    note = naming_note(data, choices.class_names, classifier.classes)
    if note:
        say(note)
    report_fitted(bundle, options.output, spec.package, classifier.device)
    if not_exported:
        raise NavMonitorError(f'{options.output} is complete, but not exported: {not_exported}')


def _weights_of(spec: Any, path: Path, classifier: Any) -> bytes:
    """Return the content of a weights file, for machines that cannot read the file."""
    from nav_monitor_ros.perception.network.specification import ONNX

    if spec.spec != ONNX:
        return path.read_bytes()
    with scratch_folder('nav_monitor_fit_') as scratch:
        whole = scratch / 'network.onnx'  # includes external data, if the file has any
        classifier.save(whole)
        return whole.read_bytes()


def _fit_options(options: argparse.Namespace) -> Any:
    from nav_monitor_ros.fitting.fit_options import FitOptions

    scores, required = scores_to_fit(options.scores, options.option)
    return FitOptions(
        name=options.name or options.output.name,
        scores=scores,
        required=required,
        fuse=scores_to_fuse(options.fuse),
        fusion=options.fusion,
        false_alarm_rate=options.false_alarm_rate,
        confidence=options.confidence,
        class_images=options.class_images,
        class_names=class_names_of(options.classes),
        seed=options.seed,
        skip_invalid=options.skip_invalid,
    )


def report_fitted(bundle: Any, folder: Path, package: str, device: object) -> None:
    """Print a summary of the fit, and where the bundle was written.

    Args:
        bundle: Fitted bundle.
        folder: Folder of the bundle.
        package: Package of the network's code; '' if the node does not need one.
        device: Device that ran the network.
    """
    from nav_monitor_ros.bundle.bundle_files import size_of

    say(f'computed on {device}')
    for note in bundle.notes():
        say(note)
    _report_images(bundle)
    size = size_of(folder) / 1e6
    say(f'wrote {folder} ({size:.1f} MB); `nav_monitor show {folder}` shows it')
    _report_use(bundle, folder, package)
    _warn_of_accuracy(bundle)


def _report_use(bundle: Any, folder: Path, package: str) -> None:
    """Print the commands that use the bundle."""
    is_own = package and package not in ('torchvision', 'nav_monitor_ros', 'onnx')
    trust = f' --trust {package}' if is_own else ''
    say(f'judge a recording: nav_monitor replay BAG --topic TOPIC '
        f'--bundle {shlex.quote(str(folder))}{trust}')
    paths = trusted = ''
    if is_own:
        found = folder_of(package)
        paths = f'PYTHONPATH={shlex.quote(str(found))}:$PYTHONPATH ' if found else ''
        trusted = f' trusted_packages:={package}'
    say(f'run it on a robot: {paths}ros2 launch nav_monitor_ros monitor.launch.py '
        f'bundle:={shlex.quote(str(folder.resolve()))}{trusted}')
    if is_own and bundle.runs_without_code:
        say('where OpenVINO or ONNX Runtime is installed, it runs without trusted_packages')


def _normalisation(preprocess: Any) -> str:
    """Return how pixels are normalised, which is the usual mistake, in the words of the options."""
    mean, std = (
        ','.join(f'{value:g}' for value in values) for values in (preprocess.mean, preprocess.std))
    return f'--scale {preprocess.scale:.6g} --mean {mean} --std {std}'


def _report_images(bundle: Any) -> None:
    """Print how many training images are classified correctly, and which images were left out."""
    provenance = bundle.provenance
    correct, images = provenance['correctly_classified'], provenance['data']['images']
    if bundle.is_labelled:
        say(f'{correct} of {images} training images are classified correctly '
            f'({correct / images:.1%}); patterns and statistics come from these')
    else:
        say(f"the {images} training images have no labels; the network's predictions are used "
            'as labels, so misclassified images go unnoticed')
    held_out = _held_out_accuracy(bundle)
    if held_out is not None:
        say(f'{held_out.correct} of {held_out.images} calibration images are classified correctly '
            f'({held_out.share:.1%})')
    shared = provenance.get('calibration_images_shared_with_data')
    if shared:
        say(f'warning: {shared} calibration images are also training images and were left out')


def _warn_of_accuracy(bundle: Any) -> None:
    provenance = bundle.provenance
    share = provenance['correctly_classified'] / provenance['data']['images']
    if bundle.is_labelled and share < EXPECTED_ACCURACY:
        say(f'warning: only {share:.1%} of the training images are classified correctly; if the '
            'network was more accurate in training, check labels, class order, weights and '
            f'preprocessing ({_normalisation(bundle.preprocess)})')
    held_out = _held_out_accuracy(bundle)
    if held_out is not None and held_out.share < share - LOST_ACCURACY:
        say(f'warning: only {held_out.share:.1%} of the calibration images are classified '
            'correctly; the monitor takes for normal what they show, so they should be of the same '
            'kind as the training images')


def _held_out_accuracy(bundle: Any) -> Any:
    """Return the accuracy on the calibration images; None if they have no labels."""
    from nav_monitor_ros.fitting.image_checks import Accuracy

    described = bundle.provenance['calibration']
    if 'labelled' not in described:
        return None
    return Accuracy(described['correctly_classified'], described['labelled'])
