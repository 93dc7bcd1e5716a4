"""The command ``nav_monitor``."""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.logging import RichHandler

from nav_monitor_ros import __version__
from nav_monitor_ros.cli.benchmark import add_benchmark
from nav_monitor_ros.cli.compare import add_compare
from nav_monitor_ros.cli.export import add_backends, add_export, add_force, export_bundle
from nav_monitor_ros.cli.network_options import (
    add_network,
    add_preprocessing,
    class_names_of,
    key_value,
    network_of,
    preprocess_of,
)
from nav_monitor_ros.cli.output import (
    PlainConsole,
    PlainFormatter,
    ProgressBars,
    accept_all_letters,
    opened,
    say,
    table_console,
    told_output,
    write_json,
)
from nav_monitor_ros.cli.ray_options import add_ray, cluster_of
from nav_monitor_ros.cli.replay_many import add_replays
from nav_monitor_ros.cli.tuning import add_tuning, add_watch, watch_of
from nav_monitor_ros.cli.view import add_view
from nav_monitor_ros.errors import NavMonitorError, printable
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.interrupt import EXIT_STATUS, requested, set_exit_message, written_message
from nav_monitor_ros.perception.network.working_folder import folder_of, look_in

_FORMATS = argparse.RawDescriptionHelpFormatter
# Largest values of options that every command understands alike.
_MOST = {'threads': 256, 'workers': 1024, 'epochs': 10**6, 'seed': 2**32 - 1}
# Ranges of options that are of some commands; what is outside would be taken for something else.
_RANGES = {'width': (320, 3840), 'channels': (1, 10**6), 'checkpoint_seconds': (0, 10**9)}
_SOURCE = (
    'SOURCE is a folder with one sub-folder per class, an .npz file (x, y), a folder of idx files, '
    'BAG:TOPIC, or sample:NAME (digits, triangles, photos, textures, noise, fashion_mnist); '
    'options follow as ?key=value&key=value: split=train|test, limit=N, part=1/3, seed=N, '
    'classes=A,B, without=A,B, transform=invert|rotate90, exif=ignore|apply, group=NAME (frames of '
    'one track), '
    'NAME=VALUE (.npz); '
    'of bags: labels=FILE (a CSV of start,end,class in seconds), group=SECONDS (that are alike)'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 if runs differ and that was asked for; 2 if what was given cannot be used, after one
        line that says why; 130 if it was interrupted, after one line that says what was written.
    """
    accept_all_letters()
    options = _parser().parse_args(arguments)
    set_exit_message(lambda: _interrupted(options))
    handler = RichHandler(console=PlainConsole(stderr=True), show_time=False, show_path=False)
    handler.setFormatter(PlainFormatter('%(message)s'))
    # On bad input standard error has one line, the reason.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with suppress(OSError):  # the current folder may be gone
        look_in(Path.cwd())
    try:
        _check_numbers(options)
        status = options.run(options) or 0
        with told_output():
            sys.stdout.flush()  # here, where a full disk can still be told
        return status
    except NavMonitorError as error:
        if not requested():  # what is unfinished may be gone already
            print(f'nav_monitor {options.command}: {error}', file=sys.stderr)
            return 2
    except OSError as error:
        if not requested():
            return _failed(options.command, error)
    except KeyboardInterrupt:
        pass
    print(printable(_interrupted(options)), file=sys.stderr)
    return EXIT_STATUS


def _failed(command: str, error: OSError) -> int:
    """Say what the system refused, and return the status."""
    if error.filename is None and isinstance(error, BrokenPipeError):
        return 1  # whoever read standard output has seen enough
    said = str(error)
    if error.filename is not None:
        said = f'{os.fsdecode(error.filename)}: {error.strerror}'
    print(f'nav_monitor {command}: {printable(said)}', file=sys.stderr)
    return 2


def _interrupted(options: argparse.Namespace) -> str:
    kept = getattr(options, 'checkpoint', None)
    if kept is not None and kept.is_dir():
        return f'interrupted; the same command goes on from {kept}'
    return written_message()


def _check_numbers(options: argparse.Namespace) -> None:
    for name, most in _MOST.items():
        number = getattr(options, name, 0) or 0
        if number < 0:
            raise NavMonitorError(f'--{name} {number}: must not be negative')
        if number > most:
            raise NavMonitorError(f'--{name} {number}: must be at most {most}')
    for name, (least, most) in _RANGES.items():
        number = getattr(options, name, least)
        if not least <= number <= most:
            raise NavMonitorError(
                f'--{name.replace("_", "-")} {number}: must be from {least} to {most}'
            )
    for name, value in vars(options).items():
        if isinstance(value, float) and not math.isfinite(value) and name != 'tolerance':
            raise NavMonitorError(f'--{name.replace("_", "-")} {value}: is no finite number')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='nav_monitor', description='Fit, evaluate and inspect monitors of image classifiers.',
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for add in (
        _add_fit, _add_evaluate, _add_show, _add_train, add_export, add_replays,
        add_compare, add_view, add_tuning, add_benchmark,
    ):
        add(commands)
    return parser


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser(
        'fit',
        help='fit a monitor to a trained network',
        formatter_class=_FORMATS,
        description=f'Fit a monitor to a trained network and write a bundle.\n\n{_SOURCE}.',
        epilog='example:\n'
        '  nav_monitor fit --model torchvision:resnet18 --model-arg num_classes=12 \\\n'
        '      --weights resnet18.pth --data photos/train --calibration photos/held_out \\\n'
        '      --size 224x224 --fit center_crop --resize-to 256 --output bundles/resnet18\n'
        '  and from a recording, labelled by a CSV with lines such as 12.5,31,crossing:\n'
        "      --data 'drive:/camera/image_raw?labels=drive.csv' \\\n"
        "      --calibration 'other_drive:/camera/image_raw?labels=other.csv&group=5'",
    )
    network = add_network(fit, required=True)
    network.add_argument('--layer', default='penultimate',
                         help='layer to monitor, name or number (default: penultimate)')
    network.add_argument('--background', type=int, metavar='INDEX',
                         help='output of a background class that the network was trained with, '
                         'such as -1 for the last')
    images = fit.add_argument_group('images')
    images.add_argument('--data', required=True, metavar='SOURCE',
                        help="training images; without labels, the network's predictions serve")
    images.add_argument('--calibration', required=True, metavar='SOURCE',
                        help='held-out in-distribution images')
    add_preprocessing(images)
    monitor = fit.add_argument_group('monitor')
    monitor.add_argument('--scores', metavar='A,B,...', help='scores to fit (default: all)')
    monitor.add_argument('--fuse', metavar='A,B,...',
                         help='members of the fused score '
                         '(default: pattern,relative_mahalanobis,vim,channel_means,energy)')
    monitor.add_argument('--option', action='append', default=[], metavar='SCORE.KEY=VALUE',
                         help='option of a score, such as pattern.select=0.25; may be repeated')
    monitor.add_argument('--false-alarm-rate', type=float, default=0.01,
                         help='of in-distribution frames, each taken alone (default: 0.01)')
    monitor.add_argument('--confidence', type=float, default=0.95,
                         help='with which that rate holds (default: 0.95)')
    monitor.add_argument('--class-images', type=int, metavar='N',
                         help='calibration images with which a class is calibrated on its own '
                         '(default: as many as let it use half of the budget; 779 for 1 %%)')
    monitor.add_argument('--name', help="the bundle's name (default: the output folder's)")
    monitor.add_argument('--skip-invalid', action='store_true',
                         help='leave out images for which the network gives NaN or infinity; '
                         'without it the first one ends the fit')
    add_backends(monitor, '--export', None)
    _add_running(fit)
    add_ray(fit, parts='training images')
    keeping = fit.add_argument_group('long work')
    keeping.add_argument('--checkpoint', type=Path, metavar='DIR',
                         help='keep there how far the fit is; the same command goes on from it '
                         'after an interruption, to the same bundle')
    keeping.add_argument('--checkpoint-seconds', type=float, default=60.0, metavar='S',
                         help='time between two checkpoints (default: 60)')
    fit.add_argument('--output', required=True, type=Path, metavar='DIR', help='the bundle')
    add_force(fit)
    fit.set_defaults(run=_fit)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        'evaluate',
        help='compare the scores of a bundle',
        formatter_class=_FORMATS,
        description='Compare the scores of a bundle on one in-distribution and several '
        f'out-of-distribution sources.\n\n{_SOURCE}.',
        epilog='example:\n'
        '  nav_monitor evaluate digits --inside sample:digits \\\n'
        "      --ood 'triangles=sample:triangles?count=1000' --ood noise=sample:noise",
    )
    evaluate.add_argument('bundle', help='folder or name of a shipped bundle')
    evaluate.add_argument('--inside', required=True, metavar='SOURCE',
                          help='in-distribution images that were used for nothing else')
    evaluate.add_argument('--ood', action='append', default=[], metavar='NAME=SOURCE',
                          help='out-of-distribution images; may be repeated, or left out to see '
                          'false alarms and patterns alone')
    evaluate.add_argument('--scores', metavar='A,B,...',
                          help='scores to compare besides those that are fused (default: all)')
    evaluate.add_argument('--peers', metavar='SOURCE',
                          help="compare with pytorch-ood's detectors as well, fitted to these "
                          'labelled training images')
    evaluate.add_argument('--rate', type=float, default=30.0, metavar='HZ',
                          help='frames a second where sources are played as video (default: 30)')
    evaluate.add_argument('--output', type=Path, metavar='DIR',
                          help='where metrics.json and report.html go')
    _add_trust(evaluate)
    _add_running(evaluate)
    add_ray(evaluate, parts='images')
    evaluate.add_argument('--backend',
                          help='what runs the network: torch, onnxruntime, openvino or auto '
                          '(default: what ran it when the monitor was fitted)')
    evaluate.set_defaults(run=_evaluate)


def _add_show(commands: Any) -> None:
    show = commands.add_parser(
        'show',
        help='show what is in a bundle',
        formatter_class=_FORMATS,
        description='Show what is in a bundle.',
        epilog='example:\n  nav_monitor show digits',
    )
    show.add_argument('bundle', help='folder or name of a shipped bundle')
    show.set_defaults(run=_show)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        'train',
        help='train a reference network and fit its monitor',
        formatter_class=_FORMATS,
        description='Train one of the reference networks, fit its monitor and write a bundle.\n\n'
        f'{_SOURCE}.',
        epilog='examples:\n'
        '  nav_monitor train digits --output my_digits\n'
        "  nav_monitor train traffic_signs --data 'gtsrb.npz?is_val=0&group=y,track' \\\n"
        "      --test 'gtsrb.npz?is_val=1' --output my_signs",
    )
    train.add_argument('task', choices=('digits', 'traffic_signs', 'fashion'))
    train.add_argument('--data', metavar='SOURCE',
                       help='labelled images (default for digits: sample:digits)')
    train.add_argument('--exclude', metavar='SOURCE',
                       help='images that must take no part, compared by their pixels')
    train.add_argument('--test', metavar='SOURCE', help='images to measure the accuracy on')
    train.add_argument('--terms', default='', metavar='TEXT',
                       help='origin and terms of the data, for the model card')
    train.add_argument('--weights', type=Path, metavar='FILE',
                       help='use these weights of an earlier training and fit the monitor only')
    train.add_argument('--decoy', action='store_true',
                       help='add a background class, made from the training images alone')
    train.add_argument('--epochs', type=int, default=0, help='(default: as many as the task needs)')
    add_watch(train)
    _add_running(train)
    train.add_argument('--output', required=True, type=Path, metavar='DIR', help='the bundle')
    add_force(train)
    train.set_defaults(run=_train)


def _add_running(parser: argparse.ArgumentParser) -> None:
    running = parser.add_argument_group('running')
    running.add_argument('--device', default='auto', help='auto, cpu or cuda:N (default: auto)')
    running.add_argument('--threads', type=int, default=1,
                         help="torch's threads on the CPU, 0 for its own choice (default: 1)")
    running.add_argument('--workers', type=int, default=0, metavar='N',
                         help='threads that read and decode images (default: one fewer than there '
                         'are cores)')
    running.add_argument('--seed', type=int, default=0, help='(default: 0)')


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--trust', action='append', default=[], metavar='PACKAGE',
                        help='allow the bundle to import network code from it; may be repeated')


def _fit(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.bundle_files import written_files
    from nav_monitor_ros.bundle.model_card import model_card
    from nav_monitor_ros.bundle.output_folder import check_foreign, check_output
    from nav_monitor_ros.bundle.saving import save_bundle
    from nav_monitor_ros.data.labels import naming_note
    from nav_monitor_ros.fitting.fit import fit
    from nav_monitor_ros.fitting.fit_checkpoint import FitCheckpoint
    from nav_monitor_ros.perception.network.loading import start_network

    spec = network_of(options)
    preprocess = preprocess_of(options)
    choices = _fit_options(options)
    check_output(
        options.output, force=options.force, outside={'--checkpoint': options.checkpoint},
        writes=written_files(spec.spec, choices.class_names or (), exported=bool(options.export)),
    )
    checkpoint = None
    if options.checkpoint is not None:
        if options.ray:
            raise NavMonitorError('--checkpoint is for one machine; with --ray a worker that dies '
                                  'costs its part only')
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

        engines_for(_listed(options.export), classifier.engine, '--export')
    with cluster_of(options) as cluster, ProgressBars() as progress:
        elsewhere = None
        if cluster is not None:
            from nav_monitor_ros.cluster.fitting import NetworkRecipe, RayFit

            elsewhere = RayFit(
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
            checkpoint=checkpoint, elsewhere=elsewhere, progress=progress,
            provenance={
                'weights': options.weights.name.encode(errors='backslashreplace').decode(),
            },
        )
    save_bundle(
        bundle, classifier, options.output, card=model_card(bundle), force=options.force
    )
    if checkpoint is not None:
        if checkpoint.resumed_at is not None:
            say(f'went on from image {checkpoint.resumed_at} of an interrupted fit')
        checkpoint.discard()
    if options.export:
        export_bundle(
            options.output, options.export, calibration, options.output,
            trusted_packages=[spec.package], threads=options.threads, seed=options.seed,
        )
    _say(naming_note(data, choices.class_names, classifier.classes))
    _report(bundle, options.output, spec.package, classifier.device)


def _weights_of(spec: Any, path: Path, classifier: Any) -> bytes:
    """Return a file of weights for machines that do not see it."""
    from nav_monitor_ros.perception.network.specification import ONNX

    if spec.spec != ONNX:
        return path.read_bytes()
    with scratch_folder('nav_monitor_fit_') as scratch:
        whole = scratch / 'network.onnx'  # with the data that may lie beside the file
        classifier.save(whole)
        return whole.read_bytes()


def _fit_options(options: argparse.Namespace) -> Any:
    from nav_monitor_ros.fitting.options import FitOptions
    from nav_monitor_ros.scores.options import checked
    from nav_monitor_ros.scores.registry import SCORES

    scores: dict[str, dict[str, Any]] = {name: {} for name in _listed(options.scores) or SCORES}
    for text in options.option:
        key, value = key_value(text)
        score, dot, name = key.partition('.')
        if not dot or score not in scores:
            raise NavMonitorError(
                f"--option {text}: write SCORE.KEY=VALUE for one of {', '.join(scores)}"
            )
        scores[score][name] = value
    for name, given in scores.items():
        if name in SCORES:
            checked(name, SCORES[name].declared, given)  # before the work
    return FitOptions(
        name=options.name or options.output.name,
        scores=scores if options.scores or options.option else None,
        fuse=_listed(options.fuse) or None,
        false_alarm_rate=options.false_alarm_rate,
        confidence=options.confidence,
        class_images=options.class_images,
        class_names=class_names_of(options.classes),
        seed=options.seed,
        skip_invalid=options.skip_invalid,
    )


def _evaluate(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.bundle.networks import load_network
    from nav_monitor_ros.bundle.shipped import find_bundle
    from nav_monitor_ros.data.labels import how_matched
    from nav_monitor_ros.evaluation.evaluate import evaluate, tables
    from nav_monitor_ros.evaluation.report_data import evaluation_report
    from nav_monitor_ros.evaluation.report_page import require_matplotlib, write_report

    outside = {}
    for text in options.ood:
        name, equals, source = text.partition('=')
        if not equals:
            raise NavMonitorError(f'--ood {text}: write NAME=SOURCE')
        if name in outside or name == options.inside:
            raise NavMonitorError(f"--ood {text}: the name '{name}' is taken; choose another one")
        outside[name] = opened(source)
    if options.rate <= 0:
        raise NavMonitorError(f'--rate {options.rate}: must be above 0')
    if options.output is not None:
        require_matplotlib()
    if options.peers and not outside:
        raise NavMonitorError('--peers compares on out-of-distribution images; give --ood')
    if options.peers and options.ray:
        raise NavMonitorError('--peers compares on one machine; leave --ray or it out')
    inside = opened(options.inside)
    peers = opened(options.peers) if options.peers else None
    bundle = load_bundle(options.bundle)
    also = _listed(options.scores) or ('all',)
    classifier = load_network(
        bundle, backend=options.backend, device=options.device, threads=options.threads,
        trusted_packages=options.trust, scores=bundle.judge(also=also).scores,
    )
    judge = bundle.calibrated_for(classifier.engine).judge(also=also)
    with cluster_of(options) as cluster, ProgressBars() as progress:
        elsewhere = None
        if cluster is not None:
            from nav_monitor_ros.cluster.judging import JudgeJob, RayJudge

            elsewhere = RayJudge(
                cluster,
                JudgeJob(
                    str(find_bundle(options.bundle).absolute()), also, options.backend,
                    tuple(options.trust), options.device, options.threads, options.workers or None,
                ),
                part=options.ray_part, progress=progress,
            )
        result, judged = evaluate(
            classifier, judge, inside, outside, peers_training=peers, rate=options.rate,
            workers=options.workers or None, elsewhere=elsewhere, progress=progress,
        )
    console = table_console()
    if result.accuracy is not None:
        console.print(f'accuracy on {inside.name}: {result.accuracy:.2%}')
        _say(how_matched(inside, bundle.class_names))
    for table in tables(result):
        console.print(table)
    if options.output is not None:
        metrics = {'bundle': bundle.name, 'inside': inside.name, **result.to_dict()}
        write_json(options.output / 'metrics.json', metrics)
        with ProgressBars() as progress:
            report = evaluation_report(bundle, judge, inside, outside, result, judged)
            write_report(options.output / 'report.html', report)
        say(f'wrote {options.output / "report.html"}')


def _show(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.bundle.show import show

    show(load_bundle(options.bundle), table_console())


def _train(options: argparse.Namespace) -> None:
    import torch

    from nav_monitor_ros.bundle.bundle_files import written_files
    from nav_monitor_ros.bundle.model_card import model_card
    from nav_monitor_ros.bundle.output_folder import check_output
    from nav_monitor_ros.bundle.saving import save_bundle
    from nav_monitor_ros.data.labels import how_matched
    from nav_monitor_ros.data.source_spec import source_label
    from nav_monitor_ros.fitting.fit import fit
    from nav_monitor_ros.fitting.options import FitOptions
    from nav_monitor_ros.fitting.train import train
    from nav_monitor_ros.perception.network.torch.classifier import Classifier
    from nav_monitor_ros.perception.network.torch.device import select_device

    where = options.data or ('sample:digits' if options.task == 'digits' else '')
    if not where:
        raise NavMonitorError(f'{options.task} has no built-in images; give --data SOURCE')
    check_output(
        options.output, force=options.force, outside={'--record-tuning': options.record_tuning},
        writes=written_files(options.task),
    )
    if options.threads:
        torch.set_num_threads(options.threads)
    data = opened(where)
    exclude = opened(options.exclude) if options.exclude else None
    test = opened(options.test) if options.test else None
    device = select_device(options.device)
    console = PlainConsole(stderr=True)
    with ProgressBars(console) as progress:
        watch = watch_of(options, progress)
        trained = train(
            options.task, data, exclude=exclude, test=test, weights=options.weights,
            decoy=options.decoy, epochs=options.epochs, seed=options.seed, device=device,
            progress=progress, log=console.print, watch=watch,
        )
    task = trained.task
    _say(how_matched(data, task.class_names))
    spec = task.spec(decoy=options.decoy)
    classifier = Classifier(
        trained.network, task.preprocess, background=-1 if options.decoy else None,
        device=device, threads=options.threads,
    )
    provenance: dict[str, Any] = {'excluded': options.exclude or 'nothing', 'seed': options.seed}
    if trained.test_accuracy is not None:
        provenance['test'] = source_label(options.test)
        provenance['test_accuracy'] = round(trained.test_accuracy, 5)
    with ProgressBars(console) as progress:
        bundle = fit(
            classifier, spec, trained.fit_data, trained.calibration_data,
            FitOptions(
                name=options.task, class_names=task.class_names, seed=options.seed,
                false_alarm_rate=task.false_alarm_rate,
            ),
            workers=options.workers or None, progress=progress, provenance=provenance,
        )
    about = (
        f'The reference network `{spec.spec}`, trained and fitted by '
        f'`nav_monitor train {options.task}`. {options.terms}'
    )
    card = model_card(bundle, about=about.strip())
    save_bundle(bundle, classifier, options.output, card=card, force=options.force)
    if trained.test_accuracy is not None:
        say(f'accuracy on {options.test}: {trained.test_accuracy:.2%}')
    if watch is not None:
        say(f'wrote {options.record_tuning}; `nav_monitor view tuning {options.record_tuning} '
            '--output tuning.html` shows it')
    _report(bundle, options.output, '', classifier.device)


def _say(note: str) -> None:
    if note:
        say(note)


def _report(bundle: Any, folder: Path, package: str, device: object) -> None:
    from nav_monitor_ros.bundle.bundle_files import size_of

    say(f'computed on {device}')
    for note in bundle.notes():
        say(note)
    _report_accuracy(bundle)
    size = size_of(folder) / 1e6
    say(f'wrote {folder} ({size:.1f} MB); `nav_monitor show {folder}` shows it')
    if package and package not in ('torchvision', 'nav_monitor_ros', 'onnx'):
        found = folder_of(package)
        where = f'PYTHONPATH={shlex.quote(str(found))}:$PYTHONPATH ' if found else ''
        say(f'the node runs it with: {where}ros2 launch nav_monitor_ros monitor.launch.py '
            f'bundle:={shlex.quote(str(folder.resolve()))} trusted_packages:={package}')


def _report_accuracy(bundle: Any) -> None:
    """Say how many training images are classified correctly, and what was left out."""
    provenance = bundle.provenance
    correct, images = provenance['correctly_classified'], provenance['data']['images']
    if provenance['labels'] == 'data':
        say(f'{correct} of {images} training images are classified correctly '
            f'({correct / images:.1%}); patterns and statistics are theirs')
        if correct < images / 2:
            say('warning: that is little; check labels, class order, weights and preprocessing')
    shared = provenance.get('calibration_images_shared_with_data')
    if shared:
        say(f'warning: {shared} calibration images are training images too and were left out')


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or '').split(',') if part.strip())
