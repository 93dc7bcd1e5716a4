"""The command ``nav_monitor train``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import PlainConsole, ProgressBars, say
from nav_monitor_ros.cli.fit import report_fitted
from nav_monitor_ros.cli.options.bundle import add_force
from nav_monitor_ros.cli.options.device_and_threads import add_running
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.recorded_tuning import add_watch, watch_of
from nav_monitor_ros.cli.options.scores import add_fusion, scores_to_fit
from nav_monitor_ros.cli.options.sources import SOURCE, opened, say_how_matched
from nav_monitor_ros.errors import NavMonitorError


def add_train(commands: Any) -> None:
    """Add the command."""
    train = commands.add_parser(
        'train',
        help='train a reference network and fit its monitor',
        description='Train one of the reference networks, fit its monitor and write a bundle.\n\n'
        f'{SOURCE}.',
        epilog='examples:\n'
        '  nav_monitor train digits --output my_digits\n'
        "  nav_monitor train traffic_signs --data 'gtsrb.npz?is_val=0&group=y,track' \\\n"
        "      --test 'gtsrb.npz?is_val=1' --output my_signs\n"
        "  nav_monitor train corridor --data 'drives.npz?group=drive' --output my_corridor",
    )
    train.add_argument('task', choices=('digits', 'traffic_signs', 'fashion', 'corridor'))
    train.add_argument('--data', metavar='SOURCE',
                       help='labelled images (default for digits: sample:digits)')
    train.add_argument('--exclude', metavar='SOURCE',
                       help='images to leave out, matched by pixel values')
    train.add_argument('--test', metavar='SOURCE', help='images on which accuracy is measured')
    train.add_argument('--terms', default='', metavar='TEXT',
                       help='origin and licence terms of the data, for the model card')
    train.add_argument('--weights', type=Path, metavar='FILE',
                       help='weights of an earlier training run; only the monitor is then fitted')
    train.add_argument('--decoy', action='store_true',
                       help='add a background class, generated from the training images only')
    train.add_argument('--epochs', type=int, default=0, metavar='N',
                       help='training epochs (default: depends on the task)')
    add_fusion(train)
    add_watch(train)
    add_running(train)
    train.add_argument('--output', required=True, type=Path, metavar='DIR', help='the bundle')
    add_force(train)
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    import torch

    from nav_monitor_ros.bundle.bundle_files import written_files
    from nav_monitor_ros.bundle.model_card import model_card
    from nav_monitor_ros.bundle.output_folder import check_output
    from nav_monitor_ros.bundle.saving import save_bundle
    from nav_monitor_ros.data.source_spec import source_label
    from nav_monitor_ros.fitting.fit import fit
    from nav_monitor_ros.fitting.fit_options import FitOptions
    from nav_monitor_ros.fitting.train import train
    from nav_monitor_ros.perception.network.torch.classifier import Classifier
    from nav_monitor_ros.perception.network.torch.device import require_device

    where = options.data or ('sample:digits' if options.task == 'digits' else '')
    if not where:
        raise NavMonitorError(f'{options.task} has no built-in images; give --data SOURCE')
    device = require_device(options.device)
    check_outputs(options, {}, folders={
        '--output': options.output, '--record-tuning': options.record_tuning})
    check_output(
        options.output, force=options.force, outside={'--record-tuning': options.record_tuning},
        writes=written_files(options.task),
    )
    if options.threads:
        torch.set_num_threads(options.threads)
    data = opened(where)
    exclude = opened(options.exclude) if options.exclude else None
    test = opened(options.test) if options.test else None
    console = PlainConsole(stderr=True)
    with ProgressBars(console) as progress:
        watch = watch_of(options, progress)
        trained = train(
            options.task, data, exclude=exclude, test=test, weights=options.weights,
            decoy=options.decoy, epochs=options.epochs, seed=options.seed, device=device,
            progress=progress, log=console.print, watch=watch,
        )
    task = trained.task
    say_how_matched(data, task.class_names)
    spec = task.spec(decoy=options.decoy)
    classifier = Classifier(
        trained.network, task.preprocess, background=-1 if options.decoy else None,
        device=device, threads=options.threads,
    )
    provenance: dict[str, Any] = {'seed': options.seed}
    if options.exclude:
        provenance['excluded'] = options.exclude
    if trained.test_accuracy is not None:
        provenance['test'] = source_label(options.test)
        provenance['test_accuracy'] = round(trained.test_accuracy, 5)
    scores, required = scores_to_fit(
        None, [] if task.bank is None else [f'knn.bank={task.bank}'])
    with ProgressBars(console) as progress:
        bundle = fit(
            classifier, spec, trained.fit_data, trained.calibration_data,
            FitOptions(
                name=options.task, scores=scores, required=required,
                class_names=task.class_names, seed=options.seed,
                false_alarm_rate=task.false_alarm_rate, fusion=options.fusion,
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
    report_fitted(bundle, options.output, '', classifier.device)
