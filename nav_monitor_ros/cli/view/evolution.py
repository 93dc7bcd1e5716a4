"""``nav_monitor view evolution``: the gradient of one image while the network learns."""

from __future__ import annotations

import argparse
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say
from nav_monitor_ros.cli.options.network import names_are_assumed
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.sources import opened, say_how_matched
from nav_monitor_ros.cli.view.options import add_files, add_side, add_viewed, open_subject


def add_evolution(views: Any) -> None:
    """Add the view."""
    parser = views.add_parser(
        'evolution', help='draw the gradient of one image while the network learns',
        description='Train a copy of the network with cross-entropy loss, and draw the gradient '
        "of one image's\nlogit after increasing numbers of steps, with the loss and the logit. The "
        'trained copy is not kept.',
        epilog='example:\n  nav_monitor view evolution digits --image sample:digits '
        '--images sample:digits \\\n      --output evolution.gif --output evolution.html',
    )
    add_viewed(parser)
    training = parser.add_argument_group('training')
    training.add_argument('--images', required=True, metavar='SOURCE',
                          help='labelled images to train on, as for `fit`; without labels, the '
                          "network's predictions are used as labels")
    training.add_argument('--from', dest='start', choices=('initialisation', 'weights'),
                          default='initialisation',
                          help='parameters to start from (default: initialisation)')
    training.add_argument('--steps', type=int, default=80, metavar='N',
                          help='number of training steps (default: 80)')
    training.add_argument('--frames', type=int, default=24, metavar='N',
                          help='largest number of frames, denser in early steps (default: 24)')
    training.add_argument('--batch', type=int, default=32, metavar='N',
                          help='images per step (default: 32)')
    training.add_argument('--learning-rate', type=float, metavar='RATE',
                          help='learning rate of Adam (default: 1e-3 from the initialisation, 1e-4 '
                          'from the weights)')
    training.add_argument('--measured', type=int, default=128, metavar='N',
                          help='number of images on which the loss is measured (default: 128)')
    parser.add_argument('--class', dest='target', metavar='CLASS',
                        help='class of the logit, name or 0-based number (default: the class that '
                        'the trained network predicts)')
    add_side(parser, 250)
    add_files(parser, 'FILE.gif|FILE.html', several=True)
    parser.set_defaults(run=_evolution)


def _evolution(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_gif, write_page
    from nav_monitor_ros.inspection.evolution_views import (
        LEARNING_RATES,
        evolution_lines,
        evolution_page,
        evolution_pictures,
        untrained,
        watch,
    )
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.training_steps import TrainingOptions

    require_suffix(options.output, ('.gif', '.html'))
    check_outputs(options, {'--output': options.output})
    source = opened(options.images)
    subject, build = open_subject(options, source)
    image = read_image(options.image, options.index, exif=subject.preprocess.exif)
    target = None if options.target is None else subject.class_index(options.target)
    network = subject.network.network
    if options.start == 'initialisation':
        network = untrained(build, options.seed).to(subject.network.device)
    rate = options.learning_rate
    training = TrainingOptions(
        steps=options.steps, frames=options.frames, batch=options.batch,
        learning_rate=LEARNING_RATES[options.start] if rate is None else rate,
        measured=options.measured, seed=options.seed,
    )
    with ProgressBars() as progress:
        evolution, target = watch(
            subject, network, source, image, training, target=target, progress=progress
        )
    say_how_matched(source, subject.class_names, assumed=names_are_assumed(options))
    for line in evolution_lines(subject, evolution):
        say(line)
    pictures = evolution_pictures(subject, image, target, evolution, side=options.side)
    for path in options.output:
        if path.suffix.lower() == '.html':
            write_page(path, evolution_page(subject, target, pictures, evolution))
        else:
            write_gif(path, pictures, pause_ms=250)
        say(f'wrote {path}')
