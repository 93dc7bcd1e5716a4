"""``nav_monitor view volume``: a layer's output as a volume."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import say
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.view.options import ORDERS, add_layer, add_viewed, open_viewed


def add_volume(views: Any) -> None:
    """Add the view."""
    volume = views.add_parser(
        'volume', help="write a layer's output as a volume",
        description="Write a layer's output as a volume of columns, rows and channels: FILE.vox "
        '(voxels), FILE.hd (what they mean) and FILE.html (slices along each axis).',
        epilog='example:\n  nav_monitor view volume digits --image sample:digits --layer conv4 '
        '--bits 8 --output conv4.vox',
    )
    add_viewed(volume)
    add_layer(volume, features=True)
    volume.add_argument('--bits', type=int, choices=(1, 8), default=8,
                        help='8: rint((x - min) / (max - min) * 255); 1: on or off, which for '
                        "penultimate is the monitor's pattern (default: 8)")
    volume.add_argument('--order', choices=ORDERS, default='index',
                        help='order of the channels (default: index)')
    volume.add_argument('--turnable', type=Path, metavar='FILE.html',
                        help='also write a page with the voxels as a 3-D scene that can be rotated '
                        '(needs k3d)')
    volume.add_argument('--output', required=True, type=Path, metavar='FILE.vox')
    volume.set_defaults(run=_volume)


def _volume(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_page
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.layer_views import volume, write_volume
    from nav_monitor_ros.inspection.turnable_volume import require_k3d, turnable_page

    if options.turnable is not None:
        require_suffix([options.turnable], ('.html',))
        require_k3d()
    written = [options.output.with_suffix(suffix) for suffix in ('.vox', '.hd', '.html')]
    check_outputs(options, {'--output': written, '--turnable': options.turnable})
    viewed = open_viewed(options)
    image = read_image(options.image, options.index, exif=viewed.preprocess.exif)
    layer = viewed.layer(options.layer)
    found, order = volume(viewed, image, layer, bits=options.bits, order=options.order)
    channels, rows, columns = found.shape
    title = f'{viewed.name}: {layer.label}'
    lines = [
        f'{channels} channels of {rows} x {columns}, {options.bits} bit per voxel, channels '
        f'ordered by {options.order}.', f'{found.meaning}.',
    ]
    for file in write_volume(options.output, found, layer.name, order.tolist(), title, lines):
        say(f'wrote {file}')
    if options.turnable is not None:
        write_page(options.turnable, turnable_page(found, title, lines))
        say(f'wrote {options.turnable}')
