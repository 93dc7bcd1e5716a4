"""Procedural textures and the colours that known and unknown objects share."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 128  # pixels, width and height of a texture
_HUES = 12
# Muted and strong colours of all hues, and grays: one pool for objects of every kind, so that
# colour alone does not tell an unknown object from a known one.
PALETTE: tuple[tuple[float, float, float], ...] = (
    *(
        colorsys.hsv_to_rgb(hue / _HUES, saturation, value)
        for saturation, value in ((0.15, 0.7), (0.45, 0.5), (0.75, 0.65))
        for hue in range(_HUES)
    ),
    *((gray, gray, gray) for gray in (0.15, 0.35, 0.55, 0.75, 0.9)),
)
# Of floors and walls; objects have these colours, too.
MUTED_PALETTE = (*PALETTE[:_HUES], *PALETTE[-4:])
# Colours and patterns of known objects in unseen dress: no training drive contains them.
_UNSEEN_PALETTE = tuple(
    colorsys.hsv_to_rgb((hue + 0.5) / _HUES, 1.0, value) for hue in range(_HUES)
    for value in (0.35, 1.0)
)


@dataclass(frozen=True)
class Surface:
    """Appearance of a part: a pattern in up to three colours."""

    pattern: str  # key of PATTERNS or of UNSEEN_PATTERNS
    colors: tuple[tuple[float, float, float], ...]  # RGB in [0, 1]
    seed: int  # of the pattern's noise


def draw_surface(
    rng: np.random.Generator,
    patterns: tuple[str, ...] = (),
    *,
    muted: bool = False,
    unseen: bool = False,
) -> Surface:
    """Draw a surface from the pools.

    Args:
        rng: Source of randomness.
        patterns: Patterns to choose from; empty for all.
        muted: Draw colours of floors and walls.
        unseen: Draw from the pools that no training drive contains.
    """
    names = tuple(UNSEEN_PATTERNS) if unseen else patterns or tuple(PATTERNS)
    palette = _UNSEEN_PALETTE if unseen else MUTED_PALETTE if muted else PALETTE
    chosen = rng.choice(len(palette), 3, replace=False)
    return Surface(
        names[int(rng.integers(len(names)))],
        tuple(palette[int(place)] for place in chosen),
        int(rng.integers(2**31)),
    )


def draw_texture(surface: Surface) -> np.ndarray:
    """Return the texture of a surface, uint8 (SIDE, SIDE, 3) RGB, periodic in both directions."""
    rng = np.random.default_rng(surface.seed)
    weights = (PATTERNS | UNSEEN_PATTERNS)[surface.pattern](rng)  # (SIDE, SIDE), in [0, 2]
    colors = np.array(surface.colors, np.float32) * 255
    low = np.clip(weights, 0, 1)[..., None]
    high = np.clip(weights - 1, 0, 1)[..., None]
    pixels = colors[0] * (1 - low) + colors[1] * (low - high) + colors[2] * high
    pixels *= 1 + 0.12 * _noise(rng, 8)[..., None] + 0.05 * _noise(rng, 64)[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return smooth periodic noise in about [-1, 1] with so many cells per side, (SIDE, SIDE)."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    wrapped = np.pad(grid, 2, mode='wrap')
    step = SIDE / cells
    places = (np.arange(SIDE, dtype=np.float32) + 0.5) / step + 1.5
    columns, rows = np.meshgrid(places, places)
    return cv2.remap(wrapped, columns, rows, cv2.INTER_LINEAR)


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of the pixels in [0, 1): across and down."""
    places = (np.arange(SIDE) + 0.5) / SIDE
    across, down = np.meshgrid(places, places)
    return across, down


def _plain(rng: np.random.Generator) -> np.ndarray:
    return 0.15 * (1 + _noise(rng, 4))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    count = int(rng.integers(2, 7))
    along = across if rng.random() < 0.5 else down
    return (np.mod(along * count, 1) < rng.uniform(0.2, 0.6)).astype(np.float32)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    count = int(rng.integers(2, 5))
    joint = (np.mod(across * count, 1) < 0.05) | (np.mod(down * count, 1) < 0.05)
    shade = rng.uniform(0, 0.25, (count, count))
    cells = shade[(down * count).astype(int), (across * count).astype(int)]
    return np.where(joint, 1.0, cells).astype(np.float32)


def _checks(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    count = 2 * int(rng.integers(1, 4))
    return ((np.floor(across * count) + np.floor(down * count)) % 2).astype(np.float32)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    rows, columns = 2 * int(rng.integers(3, 6)), int(rng.integers(2, 5))
    row = np.floor(down * rows)
    shifted = np.mod(across * columns + 0.5 * (row % 2), columns)
    joint = (np.mod(down * rows, 1) < 0.12) | (np.mod(shifted, 1) < 0.05)
    shade = rng.uniform(0, 0.4, (rows, columns))
    return np.where(joint, 1.0, shade[row.astype(int), shifted.astype(int)]).astype(np.float32)


def _grain(rng: np.random.Generator) -> np.ndarray:
    across, _ = _coordinates()
    bend = 0.05 * _noise(rng, 3) + 0.02 * _noise(rng, 9)
    lines = int(rng.integers(5, 11))
    return (0.5 + 0.5 * np.sin(2 * np.pi * lines * (across + bend))).astype(np.float32) * 0.8


def _speckles(rng: np.random.Generator) -> np.ndarray:
    noise = _noise(rng, int(rng.integers(24, 48)))
    return (noise > 0.45).astype(np.float32) + (noise > 0.7)


def _blotches(rng: np.random.Generator) -> np.ndarray:
    noise = _noise(rng, int(rng.integers(3, 7))) + 0.5 * _noise(rng, 12)
    return np.clip(1.5 * (noise + 0.2), 0, 1.6).astype(np.float32)


def _panels(rng: np.random.Generator) -> np.ndarray:
    _, down = _coordinates()
    edge = rng.uniform(0.35, 0.7)
    rail = np.abs(down - edge) < 0.02
    return np.where(rail, 2.0, (down > edge).astype(np.float32)).astype(np.float32)


def _dots(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    count = int(rng.integers(3, 7))
    radius = np.hypot(np.mod(across * count, 1) - 0.5, np.mod(down * count, 1) - 0.5)
    return (radius < rng.uniform(0.2, 0.4)).astype(np.float32)


def _zigzag(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    count = int(rng.integers(3, 6))
    wave = np.abs(np.mod(across * count, 1) - 0.5)
    return (np.mod(down * count + wave, 1) < 0.5).astype(np.float32)


def _rings(rng: np.random.Generator) -> np.ndarray:
    across, down = _coordinates()
    radius = np.hypot(across - 0.5, down - 0.5)
    return (np.mod(radius * rng.integers(6, 12), 1) < 0.5).astype(np.float32)


_Pattern = Callable[[np.random.Generator], np.ndarray]
PATTERNS: dict[str, _Pattern] = {
    'plain': _plain,
    'stripes': _stripes,
    'tiles': _tiles,
    'checks': _checks,
    'bricks': _bricks,
    'grain': _grain,
    'speckles': _speckles,
    'blotches': _blotches,
    'panels': _panels,
}
UNSEEN_PATTERNS: dict[str, _Pattern] = {'dots': _dots, 'zigzag': _zigzag, 'rings': _rings}
