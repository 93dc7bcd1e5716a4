"""Checks of the output folder of a bundle: which files may be replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nav_monitor_ros.bundle.bundle_files import CARD, DESCRIPTION, FITTED, own_files
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_folder import require_writable_folder
from nav_monitor_ros.files.output_folders import require_empty, require_own
from nav_monitor_ros.files.paths import reachable


def check_output(
    folder: Path, *, force: bool = False, outside: Mapping[str, Path | None] | None = None,
    writes: Iterable[str] = (),
) -> None:
    """Check that a new bundle may be written to a folder, before hours of work.

    Args:
        folder: Output folder.
        force: Allow a folder that holds a bundle or other files; the latter are kept.
        outside: Folders that are written to meanwhile and must not lie in it, by their options.
        writes: Files that will be written in addition to those of every bundle.

    Raises:
        NavMonitorError: It may not be written there.
    """
    if (reachable(folder).exists() or folder.is_symlink()) and not folder.is_dir():
        raise NavMonitorError(f'{folder} is not a folder; choose another output folder')
    if not force:
        require_empty(folder, 'bundle', holds_one=(folder / DESCRIPTION).is_file())
    require_writable_folder(folder)
    check_foreign(folder, {DESCRIPTION, FITTED, CARD, *writes})
    for option, path in (outside or {}).items():
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise NavMonitorError(
                f'{option} {path} lies in the output folder {folder}, which is created when the '
                'work is done; choose one outside it'
            )


def check_foreign(folder: Path, names: Iterable[str]) -> None:
    """Check that the files to be written replace only those of a bundle.

    Raises:
        NavMonitorError: A file that does not belong to a bundle has such a name.
    """
    require_own(folder, 'bundle', names, own_files(folder))
