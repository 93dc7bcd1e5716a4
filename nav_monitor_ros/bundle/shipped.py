"""The files that ship with the package, and bundles by name or path."""

from __future__ import annotations

import os
from pathlib import Path

from nav_monitor_ros.bundle.bundle_files import DESCRIPTION
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable


def shipped_bundles() -> dict[str, Path]:
    """Return the bundles that ship with the package, name -> folder."""
    for share in _share_folders():
        found = {p.parent.name: p.parent for p in sorted(share.glob(f'bundles/*/{DESCRIPTION}'))}
        if found:
            return found
    return {}


def find_bundle(bundle: str) -> Path:
    """Return the folder of a bundle given as a path or as the name of a shipped one.

    Raises:
        NavMonitorError: Neither exists.
    """
    if not bundle:
        raise NavMonitorError('no bundle is given; name a folder or a shipped bundle')
    shipped = shipped_bundles()
    if bundle in shipped:
        return shipped[bundle]
    folder = Path(os.path.expanduser(bundle))
    if not reachable(folder).is_dir():
        raise NavMonitorError(
            f"bundle '{bundle}' is neither a folder nor a shipped bundle "
            f'({", ".join(shipped) or "none is installed"})'
        )
    return folder


def find_shared_file(name: str) -> Path | None:
    """Return a file of the share folder, such as ``config/monitor.yaml``; None without it."""
    return next((share / name for share in _share_folders() if (share / name).is_file()), None)


def _share_folders() -> list[Path]:
    """Return the folders that may hold this package's data, the code's own installation first.

    A source checkout holds the data itself, also if colcon installs links to it; an installed
    package has them in ``share`` of its prefix, an overlay in that of another prefix.
    """
    here = Path(__file__).resolve()
    root = here.parents[2]
    checkout = [root] if (root / 'package.xml').is_file() else []
    own = [parent / 'share' / 'nav_monitor_ros' for parent in here.parents]
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    return [*checkout, *own, *(prefix / 'share' / 'nav_monitor_ros' for prefix in prefixes)]
