"""The command ``nav_monitor view``: pictures of the inside of a network, one module per view."""

from __future__ import annotations

from typing import Any

from nav_monitor_ros.cli.view.attribution import add_backprop, add_saliency
from nav_monitor_ros.cli.view.evolution import add_evolution
from nav_monitor_ros.cli.view.grid import add_grid
from nav_monitor_ros.cli.view.layers import add_layers
from nav_monitor_ros.cli.view.order import add_order
from nav_monitor_ros.cli.view.tuning import add_tuning
from nav_monitor_ros.cli.view.volume import add_volume
from nav_monitor_ros.cli.view.weight_gradient import add_weight_gradient


def add_view(commands: Any) -> None:
    """Add the command with all its views."""
    view = commands.add_parser(
        'view',
        help='look inside a network',
        description="Write pictures of the inside of a network: a bundle's, or any that "
        '`nav_monitor fit` accepts (--model, --weights, --size).',
        epilog='example:\n  nav_monitor view grid digits --image sample:digits --output grid.png',
    )
    views = view.add_subparsers(dest='view', required=True, metavar='VIEW')
    for add in (
        add_layers, add_grid, add_volume, add_order, add_weight_gradient, add_backprop,
        add_saliency, add_evolution, add_tuning,
    ):
        add(views)
