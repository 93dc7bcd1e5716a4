"""The folder that a bundle is written to: what may be replaced there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from nav_monitor_ros.bundle.bundle_files import CARD, DESCRIPTION, FITTED, own_files
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_folder import require_writable_folder
from nav_monitor_ros.files.paths import listed, reachable


def check_output(
    folder: Path, *, force: bool = False, outside: Mapping[str, Path | None] | None = None,
    writes: Iterable[str] = (),
) -> None:
    """Check that a new bundle may be written to a folder, before hours of work go into it.

    Args:
        folder: Where it is to go.
        force: A bundle may be there, or other files; these stay.
        outside: Folders that are written to meanwhile and must not lie within, by their options.
        writes: Files that are going to be written, besides those of every bundle.

    Raises:
        NavMonitorError: It may not.
    """
    if (reachable(folder).exists() or folder.is_symlink()) and not folder.is_dir():
        raise NavMonitorError(f'{folder} is not a folder; choose another output folder')
    if not force and folder.is_dir() and listed(folder):
        holds = 'holds a bundle already' if (folder / DESCRIPTION).is_file() else 'is not empty'
        raise NavMonitorError(
            f'{folder} {holds}; choose another output folder, or write there with --force (files '
            "that are not the bundle's stay)"
        )
    require_writable_folder(folder)
    check_foreign(folder, {DESCRIPTION, FITTED, CARD, *writes})
    for option, path in (outside or {}).items():
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise NavMonitorError(
                f'{option} {path} lies in the output folder {folder}, which appears when the work '
                'is done; name one outside of it'
            )


def check_foreign(folder: Path, names: Iterable[str]) -> None:
    """Check that files which are going to be written replace none but those of a bundle.

    Raises:
        NavMonitorError: A file of somebody else has such a name.
    """
    own = own_files(folder)
    for name in sorted(names):
        if name not in own and os.path.lexists(folder / name):
            raise NavMonitorError(
                f'{folder / name} is no file of a bundle there, and would be replaced; move it, or '
                'choose another output folder'
            )
