"""The command ``nav_monitor show``."""

from __future__ import annotations

import argparse
from typing import Any

from nav_monitor_ros.cli.console import table_console
from nav_monitor_ros.cli.options.bundle import add_bundle


def add_show(commands: Any) -> None:
    """Add the command."""
    show = commands.add_parser(
        'show',
        help='show the content of a bundle',
        description='Show the content of a bundle.',
        epilog='example:\n  nav_monitor show digits',
    )
    add_bundle(show)
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.bundle.show import show

    show(load_bundle(options.bundle), table_console())
