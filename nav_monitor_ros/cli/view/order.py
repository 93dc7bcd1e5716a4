"""``nav_monitor view order``: orders of the channels with similar ones next to each other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import say
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.view.options import add_drawing, add_layer, add_viewed, open_viewed


def add_order(views: Any) -> None:
    """Add the view."""
    order = views.add_parser(
        'order', help='place similar channels next to each other',
        description="Draw a layer's maps in several orders of its channels, and print the "
        'neighbour distance of each order (the sum of L2 distances between neighbours; smaller is '
        'smoother).',
        epilog='example:\n  nav_monitor view order digits --image sample:digits --layer conv4 '
        '--output order.png',
    )
    add_viewed(order)
    add_layer(order)
    order.add_argument('--row', type=int, metavar='N',
                       help='0-based row of each map that k-means and pca-rows use (default: the '
                       'middle row)')
    add_drawing(order, 256)
    order.add_argument('--output', required=True, type=Path, metavar='FILE.png')
    order.set_defaults(run=_order)


def _order(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.layer_views import ordered_grids, write_picture

    require_suffix([options.output], ('.png',))
    check_outputs(options, {'--output': options.output})
    viewed = open_viewed(options)
    layer = viewed.layer(options.layer)
    picture, orders = ordered_grids(
        viewed, read_image(options.image, options.index, exif=viewed.preprocess.exif), layer,
        channels=options.channels,
        colormap=options.colormap, width=options.width, row=options.row,
        scale=options.color_scale,
    )
    write_picture(options.output, picture)
    original = orders['index'][1]
    for name, (permutation, distance) in orders.items():
        share = f'{distance / original:.0%} of index' if original else ''
        say(f'{name:9s} neighbour distance {distance:10.4g}  {share:13s} '
            f'{" ".join(map(str, permutation[:12]))}{" ..." if len(permutation) > 12 else ""}')
    say(f'wrote {options.output}')
