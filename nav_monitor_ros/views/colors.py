"""The colours of all pictures: few, told apart by colour-blind people, even to the eye."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from nav_monitor_ros.decision.verdict import State

# Okabe and Ito's palette, RGB.
BLUE = (0, 114, 178)
VERMILLION = (213, 94, 0)
ORANGE = (230, 159, 0)
MAGENTA = (255, 0, 255)  # above the training range

BACKGROUND = (24, 26, 30)
PANEL = (38, 41, 47)
FAINT = (92, 98, 108)
MUTED = (160, 166, 176)
WHITE = (240, 242, 245)

OF_STATE = {
    State.OK: BLUE,
    State.SUSPECT: ORANGE,
    State.OOD: VERMILLION,
    State.INVALID: VERMILLION,
}


def _ramp(anchors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return 256 colours between evenly spaced anchors, uint8 (256, 3)."""
    places = np.linspace(0, 255, len(anchors))
    return np.stack(
        [np.interp(np.arange(256), places, channel) for channel in zip(*anchors, strict=True)],
        axis=1,
    ).astype(np.uint8)


def _opencv_table(colormap: int) -> np.ndarray:
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.cvtColor(cv2.applyColorMap(ramp, colormap), cv2.COLOR_BGR2RGB)[:, 0]


# One row a level, uint8 (256, 3) RGB. Level 255 is kept for values above the range.
TABLES: dict[str, np.ndarray] = {
    'viridis': _opencv_table(cv2.COLORMAP_VIRIDIS),
    'inferno': _opencv_table(cv2.COLORMAP_INFERNO),
    'diverging': _ramp([(0, 60, 110), BLUE, (240, 242, 245), VERMILLION, (120, 45, 0)]),
}
