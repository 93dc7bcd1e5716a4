"""Read a bundle from its folder and verify it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import (
    CLASSES,
    DESCRIPTION,
    listed_files,
    require_unchanged_file,
    required_files,
)
from nav_monitor_ros.bundle.description import bundle_of, read_description
from nav_monitor_ros.bundle.shipped import find_bundle, shipped_bundles
from nav_monitor_ros.errors import NavMonitorError


def load_bundle(bundle: str | Path) -> Bundle:
    """Read a bundle and verify it.

    Args:
        bundle: A folder, or the name of a shipped bundle.

    Returns:
        The bundle; its network is not yet built.

    Raises:
        NavMonitorError: A file is missing or was changed, the schema is unknown, or the contents
            contradict each other.
    """
    folder = find_bundle(str(bundle))
    _require_own_files(folder, (DESCRIPTION,))
    described = read_description(folder)
    _require_own_files(folder, (*required_files(_spec_of(described)), *listed_files(described)))
    _check_hashes(folder, described)
    return bundle_of(folder, described)


def _spec_of(described: Mapping[str, Any]) -> object:
    network = described.get('network')
    return network.get('spec') if isinstance(network, dict) else None


def _require_own_files(folder: Path, names: Iterable[str]) -> None:
    """Check that a bundle's files are its own: links may lead to other files.

    Raises:
        NavMonitorError: A file lies elsewhere.
    """
    if folder in shipped_bundles().values():
        return  # colcon may have installed them as links
    inside = folder.resolve()
    for name in names:
        try:
            own = (folder / name).resolve().is_relative_to(inside)
        except (OSError, RuntimeError):  # circular links
            own = False
        if not own:
            raise NavMonitorError(
                f'{folder / name} is a link that leads out of the bundle; copy the bundle with its '
                'links resolved (cp -rL)'
            )


def _check_hashes(folder: Path, described: Mapping[str, Any]) -> None:
    hashes = described.get('files')
    if not isinstance(hashes, dict):
        raise NavMonitorError(f'{folder / DESCRIPTION} is malformed: lacks files; fit it again')
    # Only file names known to this version are opened: a listed name cannot lead out of the folder.
    listed_classes = (CLASSES,) if isinstance(described.get('class_names'), dict) else ()
    for name in (*required_files(_spec_of(described)), *listed_classes):
        require_unchanged_file(folder, name, hashes.get(name), 'copy or fit it again')
