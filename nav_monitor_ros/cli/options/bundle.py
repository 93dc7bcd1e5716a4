"""Options that name a bundle, or say how one is written."""

from __future__ import annotations

from typing import Any


def add_bundle(parser: Any) -> None:
    """Add the bundle that a command works on."""
    parser.add_argument('bundle', help='folder or name of a shipped bundle')


def add_force(parser: Any) -> None:
    """Add the option that lets a command write where something is already."""
    parser.add_argument(
        '--force', action='store_true',
        help='write to the output folder though there is something in it: the files that '
        'a bundle there lists are replaced, and all others stay',
    )


def add_backends(parser: Any, flag: str, default: str | None) -> None:
    """Add the option that names the backends to export for."""
    parser.add_argument(
        flag, default=default, metavar='A,B,...',
        help='onnxruntime, openvino, torch (TensorFloat-32, on a GPU) or all'
        + (f' (default: {default})' if default else ': export the network for them, too'),
    )


def listed(text: str | None) -> tuple[str, ...]:
    """Return names that stand with commas between."""
    return tuple(part.strip() for part in (text or '').split(',') if part.strip())
