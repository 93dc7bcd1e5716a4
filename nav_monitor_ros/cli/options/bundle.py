"""Options that name a bundle or control how one is written."""

from __future__ import annotations

from typing import Any


def add_bundle(parser: Any) -> None:
    """Add the bundle that a command uses."""
    parser.add_argument('bundle', help='folder, or name of a shipped bundle')


def add_force(parser: Any, replaced: str = 'files listed by a bundle in it') -> None:
    """Add the option that allows a command to write to a non-empty folder.

    Args:
        parser: Parser of the command.
        replaced: The files that are replaced, for the help.
    """
    parser.add_argument(
        '--force', action='store_true',
        help=f'write to a non-empty output folder; {replaced} are replaced, all others are kept',
    )


def add_backends(parser: Any, flag: str, default: str | None) -> None:
    """Add the option that names the backends to export for."""
    parser.add_argument(
        flag, default=default, metavar='A,B,...',
        help='onnxruntime, openvino, torch (TensorFloat-32, on a GPU) or all'
        + (f' (default: {default})' if default else ': also export the network for these'),
    )


def listed(text: str | None) -> tuple[str, ...]:
    """Split comma-separated names."""
    return tuple(part.strip() for part in (text or '').split(',') if part.strip())
