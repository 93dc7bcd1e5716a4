"""Time to draw the live pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing, time_calls
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.views.activation_maps import draw_activations
from nav_monitor_ros.views.overlay import draw_overlay
from nav_monitor_ros.views.volume import cloud

BUNDLES = ('digits', 'traffic_signs')
PERIOD = 1 / 30  # seconds between two images of a camera
CAMERA = (480, 640)  # rows and columns of the camera's image
MAPS = {  # shapes of the drawn layers: channels, rows, columns
    '64 maps of 56 x 56': (64, 56, 56),
    '128 maps of 28 x 28': (128, 28, 28),
    '256 maps of 14 x 14': (256, 14, 14),
    '512 neurons without extent': (512,),
}
_VARIANTS = 16  # inputs that alternate, so that nothing is drawn from a cache
_REACH = 2.5  # the scale's upper end, in standard deviations of what the ReLU passed


def views_benchmark(
    *, frames: int = 2000, progress: Progress = lambda what, done, total: None
) -> Result:
    """Time the drawing of the live pictures, 640 pixels wide, without their transport.

    The overlay is that of a shipped bundle on a camera image of 640 x 480 noise. Layers are noise
    behind a ReLU, on a scale of which the strongest values run out.

    Args:
        frames: Number of timed frames per picture, each with another input than the previous one.
        progress: Callback for the progress of the work.

    Returns:
        Ratios are to the period of a 30 Hz camera.

    Raises:
        NavMonitorError: There is nothing to time.
    """
    if frames < 1:
        raise NavMonitorError(f'--frames {frames}: at least 1')
    drawings = {**_overlays(), **_layers()}
    timed = {}
    for number, (name, drawing) in enumerate(drawings.items()):
        progress('drawing', number, len(drawings))
        variants = [frame % _VARIANTS for frame in range(frames)]
        timed[name] = Timing.of(time_calls(drawing, variants, warm=_VARIANTS), PERIOD)
    return Result(
        'views', f'Drawing one picture, {frames} of each', {'frames': frames},
        'the period of a 30 Hz camera', timed,
        {
            'slowest_picture_ms': Figure(max(t.median_ms for t in timed.values()), 'lower', 'ms'),
        },
    )


def _overlays() -> dict[str, Callable[[int], object]]:
    """Return functions that draw the overlay of each shipped bundle, by name."""
    return {f'overlay, {name}': _overlay(name) for name in BUNDLES}


def _overlay(name: str) -> Callable[[int], object]:
    monitor = Monitor(load_bundle(name), device='cpu')
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_VARIANTS, *CAMERA, 3), np.uint8)
    verdicts = [monitor.look(DecodedImage(image, 'rgb')).verdict for image in images]
    alert = Alert(True, State.OOD, Reason.OOD, 'odd frames that cannot be chance')
    return lambda number: draw_overlay(images[number], verdicts[number], alert)


def _layers() -> dict[str, Callable[[int], object]]:
    """Return functions that draw layers as tiles and as point clouds, by name."""
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
