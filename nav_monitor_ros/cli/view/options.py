"""Options that several views share: network, image and drawing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.options.device_and_threads import (
    add_device,
    add_seed,
    add_threads,
    add_trust,
)
from nav_monitor_ros.cli.options.network import (
    add_network,
    add_preprocessing,
    class_names_of,
    network_of,
    preprocess_of,
    refuse_network_options,
)
from nav_monitor_ros.errors import NavMonitorError

COLORMAPS = ('viridis', 'inferno')
ORDERS = ('index', 'k-means', 'pca-rows', 'pca-maps', 'leaves')


def add_viewed(parser: argparse.ArgumentParser, *, image: bool = True) -> None:
    """Add the options for the network and the image to view."""
    parser.add_argument('bundle', nargs='?', help='bundle: folder, or name of a shipped bundle')
    add_network(parser, required=False)
    images = parser.add_argument_group('image')
    if image:
        images.add_argument('--image', required=True, metavar='FILE|SOURCE',
                            help='an image file of any size, or a source, as for `fit`')
        images.add_argument('--index', type=int, default=0, metavar='N',
                            help='0-based number of the image in a source (default: 0)')
    add_preprocessing(images)
    running = parser.add_argument_group('running')
    add_trust(running)
    add_device(running)
    add_threads(running)


def open_viewed(options: argparse.Namespace, source: Any = None) -> Any:
    """Return the network that the options of ``add_viewed`` name.

    Args:
        options: Options of the command.
        source: Labelled images, whose classes name the outputs of a network without class names.

    Raises:
        NavMonitorError: The options name no network or two, or the network cannot be used.
    """
    from nav_monitor_ros.inspection.inspected_network import view_bundle, view_network

    if options.bundle is None and options.model is None:
        raise NavMonitorError('name a bundle, or a network with --model and --weights')
    if options.bundle is not None:
        refuse_network_options(options)
    running = {'device': options.device, 'threads': options.threads}
    if options.bundle is not None:
        return view_bundle(options.bundle, trusted_packages=options.trust, **running)
    if options.weights is None:
        raise NavMonitorError('--model needs --weights')
    return view_network(
        network_of(options), options.weights,
        preprocess_of(options), class_names=class_names_of(options.classes), source=source,
        **running,
    )


def add_layer(parser: argparse.ArgumentParser, *, features: bool = False) -> None:
    """Add the option for the layer to draw.

    Args:
        parser: Parser of a view.
        features: Whether the monitored features may be drawn, too.
    """
    more = '; penultimate: the monitored features' if features else ''
    metavar = 'NAME|NUMBER|penultimate' if features else 'NAME|NUMBER'
    parser.add_argument('--layer', default='', metavar=metavar,
                        help='layer to draw, name or 1-based number (default: the last one with '
                        'at least 4 x 4 positions that is not the output of pooling; `view layers` '
                        f'lists them){more}')


def add_drawing(parser: argparse.ArgumentParser, channels: int) -> None:
    """Add the options for drawing maps.

    Args:
        parser: Parser of a view.
        channels: Default for the number of channels.
    """
    parser.add_argument('--channels', type=int, default=channels, metavar='N',
                        help=f'largest number of channels to draw (default: {channels})')
    parser.add_argument('--colormap', choices=COLORMAPS, default='viridis',
                        help='colour map of unsigned maps (default: viridis)')
    parser.add_argument('--color-scale', choices=('training', 'image'), default='training',
                        help='range of the colours: 1st to 99th percentile in training, if the '
                        'bundle has it, or of this image (default: training)')
    parser.add_argument('--width', type=int, default=960, metavar='PIXELS',
                        help='width of the picture (default: 960)')


def add_side(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the option for the size of panels, with its default in pixels."""
    parser.add_argument('--side', type=_side, default=default, metavar='PIXELS',
                        help=f'longer side of each panel, 100 to 2048 (default: {default})')


def _side(text: str) -> int:
    if not (text.isdecimal() and 100 <= int(text) <= 2048):
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer from 100 to 2048")
    return int(text)


def add_files(parser: argparse.ArgumentParser, kinds: str, *, several: bool) -> None:
    """Add the options for the output files.

    Args:
        parser: Parser of a view.
        kinds: Metavariable that shows the suffixes of the files.
        several: Whether several files may be written.
    """
    add_seed(parser)
    if '.png' in kinds:
        parser.add_argument('--colors', type=int, default=0, metavar='N',
                            help='write a .png with a palette of N colours, 2 to 256, which makes '
                            'the file smaller and the colours inexact (default: all colours)')
    parser.add_argument(
        '--output', required=True, type=Path, metavar=kinds,
        action='append' if several else 'store',
        help='file to write; may be repeated' if several else 'file to write',
    )


def open_subject(options: argparse.Namespace, source: Any = None) -> tuple[Any, Any]:
    """Return the network, ready for gradients, and a function that builds another instance."""
    from nav_monitor_ros.inspection.gradient_views import Subject

    viewed = open_viewed(options, source)
    if viewed.bundle is not None:
        spec, trusted = viewed.bundle.network, options.trust
    else:
        # A user who gives the package's name on the command line trusts it.
        spec = network_of(options)
        trusted = [spec.package]

    def build() -> Any:
        return spec.build(trusted)

    return Subject.of(viewed, build), build
