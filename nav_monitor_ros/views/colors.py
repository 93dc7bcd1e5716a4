"""Colours of all pictures: few, perceptually even, distinguishable by colour-blind people."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from nav_monitor_ros.decision.alert.reason import State

Color = tuple[int, int, int]  # RGB, 0 .. 255

# Okabe and Ito's palette.
BLUE = (0, 114, 178)
SKY = (86, 180, 233)  # blue that is visible in small spots on a dark background
VERMILLION = (213, 94, 0)
ORANGE = (230, 159, 0)

MAGENTA = (255, 0, 255)  # above the training range
CYAN = (0, 255, 255)  # below the training range

BACKGROUND = (24, 26, 30)
PANEL = (43, 46, 53)
FAINT = (92, 98, 108)
MUTED = (166, 172, 182)
WHITE = (240, 242, 245)
BLACK = (0, 0, 0)

OF_STATE: dict[State, Color] = {
    State.OK: BLUE,
    State.SUSPECT: ORANGE,
    State.OOD: VERMILLION,
    State.INVALID: VERMILLION,
}
# Text colour on a state's colour, chosen for legibility.
ON_STATE: dict[State, Color] = {
    State.OK: WHITE,
    State.SUSPECT: BLACK,
    State.OOD: WHITE,
    State.INVALID: WHITE,
}

# Levels of an activation, uint8. Level ZERO is the middle of a symmetric range.
BELOW, LOWEST, ZERO, HIGHEST, ABOVE, NOT_A_NUMBER = 0, 1, 127, 253, 254, 255

_DARKEST, _LIGHTEST = 25.0, 96.0  # CIE lightness L* of the diverging table's ends and middle


def paint(pixels: np.ndarray, color: Color) -> None:
    """Fill all pixels, uint8 (H, W, 3), with one colour."""
    # Copying a painted row is ten times as fast as repeating three numbers.
    row = np.empty(pixels.shape[1:], np.uint8)
    row[:] = color
    pixels[:] = row


@lru_cache(maxsize=8)
def level_table(colormap: str) -> np.ndarray:
    """Return the colour of every level of an activation.

    Args:
        colormap: ``viridis``, ``inferno`` or ``diverging``.

    Returns:
        uint8 (256, 3) RGB, read-only: CYAN, the colour map from LOWEST to HIGHEST, MAGENTA, BLACK.

    Raises:
        KeyError: The colour map does not exist.
    """
    ramp = _RAMPS[colormap]
    table = np.zeros((256, 3), np.uint8)
    places = np.linspace(0, len(ramp) - 1, HIGHEST - LOWEST + 1).round().astype(int)
    table[LOWEST : HIGHEST + 1] = ramp[places]
    table[BELOW], table[ABOVE], table[NOT_A_NUMBER] = CYAN, MAGENTA, BLACK
    table.flags.writeable = False
    return table


def _opencv_ramp(colormap: int) -> np.ndarray:
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.cvtColor(cv2.applyColorMap(ramp, colormap), cv2.COLOR_BGR2RGB)[:, 0]


def _diverging_ramp() -> np.ndarray:
    """Return blue, near white and vermillion with even steps of lightness, uint8 (253, 3)."""
    low, high = _tones(BLUE), _tones(VERMILLION)
    return np.concatenate([low[:-1], high[::-1]])


def _tones(color: Color) -> np.ndarray:
    """Return a colour's tones from dark to near white in even steps, uint8 (127, 3) RGB.

    In CIELAB, with the hue of the colour; the chroma decreases on both sides of it, to 0 at the
    light end, and at the dark end within the gamut of the screen.
    """
    own, green_red, blue_yellow = cv2.cvtColor(
        np.array([[color]], np.float32) / 255, cv2.COLOR_RGB2Lab
    )[0, 0]
    lightness = np.linspace(_DARKEST, _LIGHTEST, ZERO - LOWEST + 1)
    chroma = np.minimum(lightness / own, (_LIGHTEST - lightness) / (_LIGHTEST - own))
    tones = np.stack([lightness, chroma * green_red, chroma * blue_yellow], axis=1)
    shown = cv2.cvtColor(tones[None].astype(np.float32), cv2.COLOR_Lab2RGB)[0]
    return np.clip(255.0 * shown, 0, 255).round().astype(np.uint8)


_RAMPS = {
    'viridis': _opencv_ramp(cv2.COLORMAP_VIRIDIS),
    'inferno': _opencv_ramp(cv2.COLORMAP_INFERNO),
    'diverging': _diverging_ramp(),
}
