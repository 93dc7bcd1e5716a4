"""How long the live pictures take to draw."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from rich.table import Table

from nav_monitor_ros.bundle import load_bundle
from nav_monitor_ros.decision.verdict import Alert, Reason, State
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.monitor import Monitor
from nav_monitor_ros.offline.fit import Progress
from nav_monitor_ros.perception.image import RawImage
from nav_monitor_ros.views.overlay import draw_overlay
from nav_monitor_ros.views.tiles import draw_activations
from nav_monitor_ros.views.volume import cloud

BUNDLES = ('digits', 'traffic_signs')
CAMERA = (480, 640)  # rows and columns of the camera's image
MAPS = {  # what is drawn of layers: channels, rows, columns
    '64 maps of 56 x 56': (64, 56, 56),
    '128 maps of 28 x 28': (128, 28, 28),
    '256 maps of 14 x 14': (256, 14, 14),
    '512 neurons without extent': (512,),
}
_VARIANTS = 16  # inputs that take turns, so that nothing is drawn from a cache
_REACH = 2.5  # the scale's upper end, in standard deviations of what the ReLU passed


def views_benchmark(
    *, frames: int = 2000, progress: Progress = lambda what, done, total: None
) -> dict[str, Any]:
    """Time the drawing of the live pictures, 640 pixels wide, without their transport.

    The overlay is that of a shipped bundle on a camera image of 640 x 480 noise. Layers are noise
    behind a ReLU, on a scale of which the strongest values run out.

    Args:
        frames: How many of each picture are timed, each with another input than the one before.
        progress: Is told how far the work is.

    Returns:
        Machine and versions, and in ``timed`` for each picture ``median_ms`` and ``p95_ms``.

    Raises:
        NavMonitorError: There is nothing to time.
    """
    if frames < 1:
        raise NavMonitorError(f'--frames {frames}: at least 1')
    drawings = {**_overlays(), **_layers()}
    timed = {}
    for number, (name, drawing) in enumerate(drawings.items()):
        progress('drawing', number, len(drawings))
        for variant in range(_VARIANTS):
            drawing(variant)
        times = np.empty(frames)
        for frame in range(frames):
            start = time.perf_counter()
            drawing(frame % _VARIANTS)
            times[frame] = time.perf_counter() - start
        timed[name] = {
            'median_ms': float(np.median(times) * 1e3),
            'p95_ms': float(np.percentile(times, 95) * 1e3),
        }
    return {
        'frames': frames, 'processor': platform.processor() or platform.machine(),
        'numpy': np.__version__, 'opencv': cv2.__version__, 'timed': timed,
    }


def views_table(result: dict[str, Any]) -> Table:
    """Return what a person reads."""
    shown = Table(
        title=f'Drawing one picture, {result["frames"]} of each', title_justify='left'
    )
    shown.add_column('what', overflow='fold')
    for heading in ('median', 'p95'):
        shown.add_column(heading, justify='right', no_wrap=True)
    for name, figures in result['timed'].items():
        shown.add_row(name, f'{figures["median_ms"]:.2f} ms', f'{figures["p95_ms"]:.2f} ms')
    return shown


def _overlays() -> dict[str, Callable[[int], object]]:
    """Return by name what draws the overlay of each shipped bundle."""
    return {f'overlay, {name}': _overlay(name) for name in BUNDLES}


def _overlay(name: str) -> Callable[[int], object]:
    monitor = Monitor(load_bundle(name), device='cpu')
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_VARIANTS, *CAMERA, 3), np.uint8)
    verdicts = [monitor.look(RawImage(image, 'rgb')).verdict for image in images]
    alert = Alert(True, State.OOD, Reason.OOD, 'odd frames that cannot be chance')
    return lambda number: draw_overlay(images[number], verdicts[number], alert)


def _layers() -> dict[str, Callable[[int], object]]:
    """Return by name what draws layers as tiles and makes point clouds of them."""
    drawings: dict[str, Callable[[int], object]] = {}
    for name, shape in MAPS.items():
        rng = np.random.default_rng(1)
        maps = np.maximum(rng.normal(size=(_VARIANTS, *shape)), 0).astype(np.float32)
        drawings[f'activations, {name}'] = _tiles(maps, name)
        drawings[f'volume, {name}'] = _cloud(maps)
    return drawings


def _tiles(maps: np.ndarray, name: str) -> Callable[[int], object]:
    return lambda number: draw_activations(
        maps[number], scale=(0.0, _REACH), layer=name, channels=len(maps[number])
    )


def _cloud(maps: np.ndarray) -> Callable[[int], object]:
    return lambda number: cloud(
        maps[number], (0.0, _REACH), channels=len(maps[number]), colormap='viridis'
    )
