"""``nav_monitor view``: pictures of what goes on in a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli_network import (
    add_network,
    add_preprocessing,
    class_names_of,
    key_value,
    preprocess_of,
)
from nav_monitor_ros.errors import NavMonitorError

_FORMATS = argparse.RawDescriptionHelpFormatter
_COLORMAPS = ('viridis', 'inferno')
_ORDERS = ('index', 'k-means', 'pca-rows', 'pca-maps', 'leaves')


def add_view(commands: Any) -> None:
    """Add the command with all its views."""
    view = commands.add_parser(
        'view',
        help='look inside a network',
        formatter_class=_FORMATS,
        description='Write pictures of what goes on in a network: that of a bundle, or any that '
        '`nav_monitor fit` takes (--model, --weights, --size).',
        epilog='example:\n  nav_monitor view grid digits --image sample:digits --output grid.png',
    )
    views = view.add_subparsers(dest='view', required=True, metavar='VIEW')
    for add in (_add_layers, _add_grid, _add_volume, _add_order):
        add(views)


def add_viewed(parser: argparse.ArgumentParser, *, image: bool = True) -> None:
    """Add the options that say which network, and which image, are looked at."""
    parser.add_argument('bundle', nargs='?', help='a bundle: folder, or the name of a shipped one')
    add_network(parser, required=False)
    images = parser.add_argument_group('image')
    if image:
        images.add_argument('--image', required=True, metavar='FILE|SOURCE',
                            help='an image file of any size, or a source as `fit` takes it')
        images.add_argument('--index', type=int, default=0, metavar='N',
                            help='which image of a source, from 0 (default: 0)')
    add_preprocessing(images)
    running = parser.add_argument_group('running')
    running.add_argument('--trust', action='append', default=[], metavar='PACKAGE',
                         help='allow the bundle to import network code from it; may be repeated')
    running.add_argument('--device', default='auto', help='auto, cpu or cuda:N (default: auto)')
    running.add_argument('--threads', type=int, default=1,
                         help="torch's threads on the CPU, 0 for its own choice (default: 1)")


def open_viewed(options: argparse.Namespace) -> Any:
    """Return the network that the options of ``add_viewed`` name.

    Raises:
        NavMonitorError: They name none, or two, or it cannot be used.
    """
    from nav_monitor_ros.offline.viewed import view_bundle, view_network
    from nav_monitor_ros.perception.network import NetworkSpec

    if (options.bundle is None) == (options.model is None):
        raise NavMonitorError('name a bundle, or a network with --model and --weights')
    running = {'device': options.device, 'threads': options.threads}
    if options.bundle is not None:
        return view_bundle(options.bundle, trusted_packages=options.trust, **running)
    if options.weights is None:
        raise NavMonitorError('--model needs --weights')
    return view_network(
        NetworkSpec(options.model, dict(map(key_value, options.model_arg))), options.weights,
        preprocess_of(options), class_names=class_names_of(options.classes), **running,
    )


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--layer', default='', metavar='NAME|NUMBER',
                        help='(default: the last one with extent; `view layers` lists them)')


def _add_drawing(parser: argparse.ArgumentParser, channels: int) -> None:
    parser.add_argument('--channels', type=int, default=channels, metavar='N',
                        help=f'at most so many (default: {channels})')
    parser.add_argument('--colormap', choices=_COLORMAPS, default='viridis',
                        help='of unsigned maps (default: viridis)')
    parser.add_argument('--width', type=int, default=960, metavar='PIXELS',
                        help='of the picture (default: 960)')


def _add_layers(views: Any) -> None:
    layers = views.add_parser(
        'layers', help='list the layers', formatter_class=_FORMATS,
        description='List the layers with their numbers, names and shapes. All views take either.',
        epilog='example:\n  nav_monitor view layers traffic_signs',
    )
    add_viewed(layers, image=False)
    layers.set_defaults(run=_layers)


def _layers(options: argparse.Namespace) -> None:
    from rich.console import Console

    from nav_monitor_ros.offline.view_layers import layer_table

    Console().print(layer_table(open_viewed(options)))


def _add_grid(views: Any) -> None:
    grid = views.add_parser(
        'grid', help='draw all activation maps of a layer', formatter_class=_FORMATS,
        description='Draw the activation maps of a layer for one image, as the node publishes '
        'them on ~/activations.',
        epilog='example:\n  nav_monitor view grid traffic_signs --image sign.png --layer conv4 '
        '--output grid.png',
    )
    add_viewed(grid)
    _add_layer(grid)
    grid.add_argument('--order', choices=('strongest', *_ORDERS), default='index',
                      help='of the channels (default: index)')
    _add_drawing(grid, 256)
    grid.add_argument('--output', required=True, type=Path, metavar='FILE.png')
    grid.set_defaults(run=_grid)


def _grid(options: argparse.Namespace) -> None:
    from nav_monitor_ros.offline.view_layers import grid, write_picture
    from nav_monitor_ros.offline.viewed import read_image

    viewed = open_viewed(options)
    layer = viewed.layer(options.layer)
    picture = grid(
        viewed, read_image(options.image, options.index), layer, channels=options.channels,
        order=options.order, colormap=options.colormap, width=options.width,
    )
    write_picture(options.output, picture)
    print(f'wrote {options.output}')


def _add_volume(views: Any) -> None:
    volume = views.add_parser(
        'volume', help="write a layer's output as a volume", formatter_class=_FORMATS,
        description="Write a layer's output as a volume of columns, rows and channels: FILE.vox "
        '(voxels), FILE.hd (what they mean) and FILE.html (slices along each axis).',
        epilog='example:\n  nav_monitor view volume digits --image sample:digits --layer conv4 '
        '--bits 8 --output conv4.vox',
    )
    add_viewed(volume)
    volume.add_argument('--layer', default='', metavar='NAME|NUMBER|penultimate',
                        help='(default: the last one with extent); penultimate: the monitored '
                        "features, whose bits are the monitor's pattern")
    volume.add_argument('--bits', type=int, choices=(1, 8), default=8,
                        help='8: rint((x - min) / (max - min) * 255); 1: on or off (default: 8)')
    volume.add_argument('--order', choices=_ORDERS, default='index',
                        help='of the channels (default: index)')
    volume.add_argument('--output', required=True, type=Path, metavar='FILE.vox')
    volume.set_defaults(run=_volume)


def _volume(options: argparse.Namespace) -> None:
    from nav_monitor_ros.offline.view_layers import volume, write_volume
    from nav_monitor_ros.offline.viewed import read_image

    viewed = open_viewed(options)
    image = read_image(options.image, options.index)
    found, layer, order = volume(
        viewed, image, options.layer, bits=options.bits, order=options.order
    )
    channels, rows, columns = found.shape
    for file in write_volume(
        options.output, found, layer, order.tolist(), f'{viewed.name}: {layer}',
        [f'{channels} channels of {rows} x {columns}, {options.bits} bit a voxel, channels by '
         f'{options.order}.', f'{found.meaning}.'],
    ):
        print(f'wrote {file}')


def _add_order(views: Any) -> None:
    order = views.add_parser(
        'order', help='bring similar channels together', formatter_class=_FORMATS,
        description="Draw a layer's maps in several orders of its channels, and print the "
        'neighbour distance of each (the sum of the L2 steps between neighbours; smaller is '
        'smoother).',
        epilog='example:\n  nav_monitor view order digits --image sample:digits --layer conv4 '
        '--output order.png',
    )
    add_viewed(order)
    _add_layer(order)
    order.add_argument('--row', type=int, metavar='N',
                       help='row of each map that k-means and pca-rows look at (default: the '
                       'middle one)')
    _add_drawing(order, 256)
    order.add_argument('--output', required=True, type=Path, metavar='FILE.png')
    order.set_defaults(run=_order)


def _order(options: argparse.Namespace) -> None:
    from nav_monitor_ros.offline.view_layers import ordered_grids, write_picture
    from nav_monitor_ros.offline.viewed import read_image

    viewed = open_viewed(options)
    layer = viewed.layer(options.layer)
    picture, orders = ordered_grids(
        viewed, read_image(options.image, options.index), layer, channels=options.channels,
        colormap=options.colormap, width=options.width, row=options.row,
    )
    write_picture(options.output, picture)
    original = orders['index'][1]
    for name, (permutation, distance) in orders.items():
        share = f'{distance / original:.0%} of index' if original else ''
        print(f'{name:9s} neighbour distance {distance:10.4g}  {share:13s} '
              f'{" ".join(map(str, permutation[:12]))}{" ..." if len(permutation) > 12 else ""}')
    print(f'wrote {options.output}')
