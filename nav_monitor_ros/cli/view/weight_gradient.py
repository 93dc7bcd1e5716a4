"""``nav_monitor view weight-gradient``: how three classes depend on the filters of a layer."""

from __future__ import annotations

import argparse
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say
from nav_monitor_ros.cli.options.network import names_are_assumed
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.sources import opened, say_how_matched
from nav_monitor_ros.cli.view.options import add_files, add_viewed, open_subject
from nav_monitor_ros.errors import NavMonitorError


def add_weight_gradient(views: Any) -> None:
    """Add the view."""
    parser = views.add_parser(
        'weight-gradient', help='show how three classes depend on the filters of a convolution',
        description='Draw d logit / d weight of a convolution as a volume of filters, input '
        'channels\nand kernel positions, for the class that is missed most often, the most similar '
        'and the\nleast similar class according to the confusion matrix: each on an image that is '
        'classified\ncorrectly and on one that is missed. Below: the importance of each filter, '
        'mean |gradient x weight|,\nand the accuracy as filters are set to zero.',
        epilog='example:\n  nav_monitor view weight-gradient digits --images sample:digits '
        '--layer conv4.0 \\\n      --output filters.png --output filters.html',
    )
    add_viewed(parser, image=False)
    parser.add_argument('--images', required=True, metavar='SOURCE',
                        help='labelled images, as for `fit`; without labels, the '
                        "network's predictions are used as labels")
    parser.add_argument('--layer', default='', metavar='NAME|NUMBER',
                        help='convolution, name or 1-based number (default: the last one with '
                        'spatial extent)')
    parser.add_argument('--reference', metavar='CLASS',
                        help='the first class, name or 0-based number (default: the one missed '
                        'most often)')
    parser.add_argument('--measured', type=int, default=200, metavar='N',
                        help='number of images for importance and accuracy, half each; 0: do not '
                        'measure them (default: 200)')
    add_files(parser, 'FILE.png|FILE.html', several=True)
    parser.set_defaults(run=_weight_gradient)


def _weight_gradient(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_page, write_png
    from nav_monitor_ros.inspection.gradient_views import (
        comparison_lines,
        comparison_page,
        comparison_picture,
    )
    from nav_monitor_ros.inspection.weight_gradients import compare_filters

    require_suffix(options.output, ('.png', '.html'))
    check_outputs(options, {'--output': options.output})
    if options.measured < 0:
        raise NavMonitorError(f'--measured {options.measured}: must not be negative')
    source = opened(options.images)
    subject, _ = open_subject(options, source)
    wanted = options.reference
    with ProgressBars() as progress:
        compared = compare_filters(
            subject.network, subject.preprocess, source, subject.class_names,
            layer=options.layer, reference=None if wanted is None else subject.class_index(wanted),
            measured=options.measured, seed=options.seed, progress=progress,
        )
    say_how_matched(source, subject.class_names, assumed=names_are_assumed(options))
    for line in comparison_lines(subject, compared):
        say(line)
    for path in options.output:
        if path.suffix.lower() == '.html':
            write_page(path, comparison_page(subject, compared))
        else:
            write_png(path, comparison_picture(subject, compared), options.colors)
        say(f'wrote {path}')
