"""``nav_monitor view grid``: all activation maps of a layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import say
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.view.options import ORDERS, add_drawing, add_layer, add_viewed, open_viewed


def add_grid(views: Any) -> None:
    """Add the view."""
    grid = views.add_parser(
        'grid', help='draw all activation maps of a layer',
        description='Draw the activation maps of a layer for one image, as the node publishes '
        'them on ~/activations.',
        epilog='example:\n  nav_monitor view grid traffic_signs --image sign.png --layer conv4 '
        '--output grid.png',
    )
    add_viewed(grid)
    add_layer(grid, features=True)
    grid.add_argument('--order', choices=('strongest', *ORDERS), default='index',
                      help='order of the channels (default: index)')
    add_drawing(grid, 256)
    grid.add_argument('--output', required=True, type=Path, metavar='FILE.png')
    grid.set_defaults(run=_grid)


def _grid(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix
    from nav_monitor_ros.inspection.inspected_network import image_title, read_image
    from nav_monitor_ros.inspection.layer_views import grid, write_picture

    require_suffix([options.output], ('.png',))
    check_outputs(options, {'--output': options.output})
    viewed = open_viewed(options)
    layer = viewed.layer(options.layer)
    picture = grid(
        viewed, read_image(options.image, options.index, exif=viewed.preprocess.exif), layer,
        channels=options.channels,
        order=options.order, colormap=options.colormap, width=options.width,
        scale=options.color_scale, title=image_title(options.image, options.index),
    )
    write_picture(options.output, picture)
    say(f'wrote {options.output}')
