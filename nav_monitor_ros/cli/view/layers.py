"""``nav_monitor view layers``: the layers of a network."""

from __future__ import annotations

import argparse
from typing import Any

from nav_monitor_ros.cli.console import table_console
from nav_monitor_ros.cli.view.options import add_viewed, open_viewed


def add_layers(views: Any) -> None:
    """Add the view."""
    layers = views.add_parser(
        'layers', help='list the layers',
        description='List the layers with their numbers, names and shapes. All views accept a '
        'number or a name.',
        epilog='example:\n  nav_monitor view layers traffic_signs',
    )
    add_viewed(layers, image=False)
    layers.set_defaults(run=_layers)


def _layers(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.layer_views import layer_table

    table_console().print(layer_table(open_viewed(options)))
