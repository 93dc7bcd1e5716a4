"""``nav_monitor view backprop`` and ``saliency``: the pixels that a logit depends on."""

from __future__ import annotations

import argparse
from typing import Any

from nav_monitor_ros.cli.console import say
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.view.options import add_files, add_side, add_viewed, open_subject


def add_backprop(views: Any) -> None:
    """Add the view."""
    parser = views.add_parser(
        'backprop', help='draw the gradient of a logit with respect to the image, in colours',
        description="Draw the gradient of a class's logit with respect to the network's input; a "
        'gradient of 0\nis exactly mid-grey. smoothgrad and integrated-gradients need captum.',
        epilog='example:\n  nav_monitor view backprop traffic_signs --image sign.png '
        '--method all --output backprop.png',
    )
    add_viewed(parser)
    _add_attribution(parser, 'gradient, smoothgrad, integrated-gradients')
    parser.set_defaults(run=_backprop)


def _backprop(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.attribution import SIGNED
    from nav_monitor_ros.inspection.gradient_views import backprop_picture, methods_of

    _draw_attribution(options, backprop_picture, methods=methods_of(options.method, SIGNED))


def add_saliency(views: Any) -> None:
    """Add the view."""
    parser = views.add_parser(
        'saliency', help='show which pixels a logit depends on',
        description="Draw how much a class's logit depends on each pixel: the sum of absolute "
        'values over\nchannels, clipped at the 99th percentile. smoothgrad and '
        'integrated-gradients need captum.',
        epilog='example:\n  nav_monitor view saliency digits --image sample:digits '
        '--method gradient,grad-cam \\\n      --output saliency.png',
    )
    add_viewed(parser)
    _add_attribution(parser, 'gradient, smoothgrad, integrated-gradients, grad-cam')
    parser.add_argument('--layer', default='', metavar='NAME|NUMBER',
                        help='layer whose maps grad-cam uses, name or 1-based number (default: the '
                        'last one with at least 4 x 4 positions that is not the output of pooling '
                        'and affects the logit)')
    parser.set_defaults(run=_saliency)


def _saliency(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.gradient_views import methods_of, saliency_picture

    _draw_attribution(
        options, saliency_picture, methods=methods_of(options.method), layer=options.layer
    )


def _add_attribution(parser: argparse.ArgumentParser, methods: str) -> None:
    parser.add_argument('--class', dest='target', metavar='CLASS',
                        help='class of the logit, name or 0-based number (default: the predicted '
                        'class)')
    parser.add_argument('--method', default='gradient', metavar='A,B,...',
                        help=f'any of {methods}; or all (default: gradient)')
    add_side(parser, 300)
    add_files(parser, 'FILE.png', several=False)


def _draw_attribution(options: argparse.Namespace, draw: Any, **choices: Any) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_png
    from nav_monitor_ros.inspection.inspected_network import read_image

    require_suffix([options.output], ('.png',))
    check_outputs(options, {'--output': options.output})
    subject, _ = open_subject(options)
    image = read_image(options.image, options.index, exif=subject.preprocess.exif)
    target = None if options.target is None else subject.class_index(options.target)
    picture = draw(
        subject, image, target=target, seed=options.seed, side=options.side, **choices
    )
    write_png(options.output, picture, options.colors)
    say(f'wrote {options.output}')
