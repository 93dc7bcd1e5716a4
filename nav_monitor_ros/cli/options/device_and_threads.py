"""Options for the device that runs the network and for its threads."""

from __future__ import annotations

import argparse
from typing import Any

_TORCH_THREADS = "torch's threads on the CPU; 0: torch chooses (default: 1)"


def add_trust(parser: Any) -> None:
    """Add the option that allows a bundle to import network code."""
    parser.add_argument('--trust', action='append', default=[], metavar='PACKAGE',
                        help='allow the bundle to import network code from PACKAGE; may be '
                        'repeated')


def add_device(parser: Any) -> None:
    """Add the option for the device on which torch runs the network."""
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda:N (default: auto)')


def add_threads(parser: Any, text: str = _TORCH_THREADS) -> None:
    """Add the option for the number of threads of the network on the CPU."""
    parser.add_argument('--threads', type=int, default=1, metavar='N', help=text)


def add_seed(parser: Any, text: str = 'random seed') -> None:
    """Add the option for the seed.

    Args:
        parser: Parser of a command, or a group of its options.
        text: Help text, without the default.
    """
    parser.add_argument('--seed', type=int, default=0, metavar='N', help=f'{text} (default: 0)')


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that run a network over many images."""
    running = parser.add_argument_group('running')
    add_device(running)
    add_threads(running)
    running.add_argument('--workers', type=int, default=0, metavar='N',
                         help='threads that read and decode images (default: one fewer than the '
                         'number of cores)')
    add_seed(running)
