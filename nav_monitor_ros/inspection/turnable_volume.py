"""A volume as a page with a rotatable 3-D view, drawn by k3d."""

from __future__ import annotations

import warnings

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.views.colors import HIGHEST, LOWEST, level_table
from nav_monitor_ros.views.pages.rendering import render
from nav_monitor_ros.views.volume import Volume

_SHOWN = 0.1  # share of the scale above which voxels are shown
_MOST = 2_000_000  # voxels; more are slow to rotate


def require_k3d() -> None:
    """Check that such pages can be created.

    Raises:
        NavMonitorError: k3d is not installed.
    """
    try:
        import k3d  # noqa: F401
    except ImportError:
        raise NavMonitorError(
            "--turnable needs k3d: pip install 'nav_monitor_ros[volume]' (or k3d); the page with "
            "slices works without it"
        ) from None


def turnable_page(volume: Volume, title: str, lines: list[str]) -> str:
    """Return a self-contained HTML file.

    The image's rows are vertical, and channels extend in depth. 8-bit voxels have the colours of
    viridis, and those at the low end of the scale are left out; of 1-bit voxels, those that are on
    are shown.

    Args:
        volume: Volume to show.
        title: Title of the page.
        lines: Facts, shown below it.

    Raises:
        NavMonitorError: k3d is not installed, or the volume is too large to rotate.
    """
    require_k3d()
    import k3d

    channels, rows, columns = volume.shape
    if volume.voxels.size > _MOST:
        raise NavMonitorError(
            f'{volume.voxels.size} voxels are too many to rotate (at most {_MOST}); choose '
            'another layer, or use the page with slices'
        )
    if volume.bits == 8:
        ramp = level_table('viridis')[LOWEST : HIGHEST + 1]
        shown = np.where(volume.voxels > _SHOWN * 255, volume.voxels, 0)
        colors = ramp[np.linspace(0, len(ramp) - 1, 255).round().astype(int)].astype(int)
        note = f' Voxels below {_SHOWN:.0%} of the scale are left out.'
    else:
        shown, colors, note = volume.voxels, np.array([[0, 114, 178]]), ''
    # k3d has (z, y, x): rows are vertical, the first on top; channels extend in depth.
    stacked = np.ascontiguousarray(shown.transpose(1, 0, 2)[::-1])
    if not stacked.any():
        note = ' No voxel is above the low end of the scale, so nothing is shown.'
    size = max(rows, columns)
    depth = max(channels, 2 * size) if channels >= 8 else channels
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # k3d warns that it casts colours and bounds to float32
        plot = k3d.plot(
            camera_auto_fit=False, grid_visible=False, axes_helper=0, name=title,
        )
        plot += k3d.voxels(
            stacked, color_map=[int(r) << 16 | int(g) << 8 | int(b) for r, g, b in colors],
            outlines=False, bounds=[0, columns, 0, depth, 0, rows], compression_level=9,
        )
        distance = 0.85 * (size + depth)
        plot.camera = [
            columns / 2 - 0.75 * distance, depth / 2 - 0.75 * distance, rows / 2 + 0.5 * distance,
            columns / 2, depth / 2, rows / 2, 0, 0, 1,
        ]
        html: str = plot.get_snapshot()
    axes = f'Rows are vertical, channels extend in depth.{note} Drag to rotate.'
    block = render('turnable_volume.html', title=title, lines=[*lines, axes])
    return html.replace('</body>', f'{block}</body>', 1)
