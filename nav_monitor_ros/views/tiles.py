"""The activation maps of one layer as tiles, on a fixed scale."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from nav_monitor_ros.views.colors import BACKGROUND, FAINT, MAGENTA, MUTED, TABLES, WHITE
from nav_monitor_ros.views.text import put_text, text_width

ORDERS = ('strongest', 'index')
COLORMAPS = ('viridis', 'inferno')
_LEGEND = 52  # rows of the legend, pixels
_MARGIN = 8  # pixels
_TOP_LEVEL = 254  # level of the upper end of the range; 255 lies above it
_SMALLEST = 1e-12  # a range no wider is that of a layer that did nothing in training
_LABEL_ROOM = 30  # pixels a tile needs to bear its number


def draw_activations(
    maps: np.ndarray,
    *,
    scale: tuple[float, float],
    layer: str,
    channels: int = 64,
    order: str = 'strongest',
    colormap: str = 'viridis',
    width: int = 640,
) -> np.ndarray:
    """Draw the maps of one layer for one image.

    Colours mean the same in every frame: the scale is the range that the layer had in training,
    symmetric with a diverging map where the layer is signed. Values above the range are magenta,
    values that are no numbers are crossed out.

    Args:
        maps: float32 (C, h, w), or (D,) for a layer without spatial extent.
        scale: 1st and 99th percentile of the layer's values in training.
        layer: Its name, for the legend.
        channels: How many tiles at most.
        order: ``strongest`` (largest mean activation first) or ``index``.
        colormap: ``viridis`` or ``inferno``, for layers without negative values.
        width: Of the picture, pixels.

    Returns:
        uint8 (H, width, 3) RGB.
    """
    spatial = maps.ndim == 3
    chosen = _choose(maps, channels if spatial else maps.size, order if spatial else 'index')
    tiles = maps[chosen] if spatial else maps[chosen].reshape(-1, 1, 1)
    low, high, table = _range(scale, colormap)
    invalid = ~np.isfinite(tiles)
    levels = _levels(tiles, low, high)
    columns, side = _layout(len(tiles), tiles.shape[1:], width)
    grid = _tiled(levels, columns, side)
    picture = cv2.applyColorMap(grid, _colored(table)[:, None])
    _blank(picture, len(tiles), columns, side)
    if invalid.any():
        marked = _tiled(invalid.astype(np.uint8), columns, side, empty=0) > 0
        stripes = np.add.outer(np.arange(grid.shape[0]), np.arange(grid.shape[1])) % 8 < 3
        picture[marked] = np.where(stripes[marked][:, None], WHITE, 0)
    _rule(picture, columns, side)
    if spatial and min(side) >= _LABEL_ROOM:
        _number(picture, chosen, columns, side)
    framed = np.empty((picture.shape[0] + _LEGEND + _MARGIN, width, 3), np.uint8)
    framed[:] = BACKGROUND
    left = (width - picture.shape[1]) // 2
    framed[_LEGEND : _LEGEND + picture.shape[0], left : left + picture.shape[1]] = picture
    note = f'not finite: {int(invalid.sum())} values' if invalid.any() else ''
    shape = ' x '.join(map(str, maps.shape))
    what = 'channels' if spatial else 'neurons'
    shown = f'{len(chosen)} of {len(maps)} {what}, ' + (
        'strongest first' if order == 'strongest' and spatial else 'by index'
    )
    _legend(framed, layer, f'{shape}   {shown}', note, low, high, table)
    return framed


def _choose(maps: np.ndarray, count: int, order: str) -> np.ndarray:
    """Return the indices of the channels to show."""
    if order != 'strongest':
        return np.arange(min(count, len(maps)))
    with np.errstate(over='ignore'):  # what overflows is the strongest
        strength = np.abs(maps).mean(axis=(1, 2))
    strength = np.nan_to_num(strength, nan=np.inf, posinf=np.inf)
    return np.argsort(-strength, kind='stable')[:count]


def _range(scale: tuple[float, float], colormap: str) -> tuple[float, float, str]:
    low, high = scale
    if low < 0:
        reach = max(-low, high, _SMALLEST)
        return -reach, reach, 'diverging'
    return 0.0, high if high > _SMALLEST else 1.0, colormap


def _levels(tiles: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return uint8 levels: 0 .. 254 over the range, 255 above it."""
    scaled = (np.clip(tiles, low, high) - np.float32(low)) * np.float32(_TOP_LEVEL / (high - low))
    levels = np.rint(np.nan_to_num(scaled, copy=False)).astype(np.uint8)
    levels[tiles > high] = _TOP_LEVEL + 1
    return levels


@lru_cache(maxsize=8)
def _colored(table: str) -> np.ndarray:
    """Return the colours of all levels, uint8 (256, 3)."""
    colors = TABLES[table].copy()
    colors[_TOP_LEVEL + 1] = MAGENTA
    return colors


def _layout(count: int, shape: tuple[int, ...], width: int) -> tuple[int, tuple[int, int]]:
    """Return how many columns of tiles there are, and the rows and columns of a tile's pixels."""
    height, breadth = shape
    aspect = breadth / height
    room = width - 2 * _MARGIN
    columns = max(1, min(count, math.ceil(math.sqrt(count * 4 / 3 / aspect)), room // 2))
    side = max(2, room // columns)
    return columns, (max(2, round(side / aspect)), side)


def _tiled(
    levels: np.ndarray, columns: int, side: tuple[int, int], empty: int = 0
) -> np.ndarray:
    """Return all tiles in one plane, each enlarged to ``side``, uint8."""
    count, height, breadth = levels.shape
    rows = -(-count // columns)
    padded = np.full((rows * columns, height, breadth), empty, np.uint8)
    padded[:count] = levels
    plane = padded.reshape(rows, columns, height, breadth).swapaxes(1, 2)
    plane = np.ascontiguousarray(plane).reshape(rows * height, columns * breadth)
    size = columns * side[1], rows * side[0]
    return cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)


def _blank(picture: np.ndarray, count: int, columns: int, side: tuple[int, int]) -> None:
    """Clear the places behind the last tile."""
    last = (count - 1) // columns
    picture[last * side[0] :, (count - last * columns) * side[1] :] = BACKGROUND


def _rule(picture: np.ndarray, columns: int, side: tuple[int, int]) -> None:
    """Draw the gaps between tiles, where there is room for them."""
    if min(side) >= 8:
        picture[:: side[0]] = BACKGROUND
        picture[:, :: side[1]] = BACKGROUND


def _number(
    picture: np.ndarray, chosen: np.ndarray, columns: int, side: tuple[int, int]
) -> None:
    for place, channel in enumerate(chosen):
        row, column = divmod(place, columns)
        label = _label(int(channel))
        top, left = row * side[0] + 1, column * side[1] + 1
        picture[top : top + label.shape[0], left : left + label.shape[1]] = label


@lru_cache(maxsize=4096)
def _label(channel: int) -> np.ndarray:
    """Return a channel's number on a dark patch, uint8 (h, w, 3)."""
    text = str(channel)
    patch = np.zeros((11, text_width(text, 7) + 4, 3), np.uint8)
    put_text(patch, text, 2, 9, 7, WHITE)
    return patch


def _legend(
    picture: np.ndarray, layer: str, facts: str, note: str, low: float, high: float, table: str
) -> None:
    width = picture.shape[1]
    bar = min(180, width // 3)
    left = width - _MARGIN - bar
    put_text(picture, layer, _MARGIN, 20, 11, WHITE, bold=True, room=left - 3 * _MARGIN)
    put_text(
        picture, note or facts, _MARGIN, 40, 9, MAGENTA if note else MUTED,
        room=left - 3 * _MARGIN,
    )
    ramp = np.linspace(0, _TOP_LEVEL, bar - 14).astype(np.uint8)
    picture[10:24, left : left + bar - 14] = _colored(table)[ramp]
    picture[10:24, left + bar - 12 : left + bar] = MAGENTA
    cv2.rectangle(picture, (left - 1, 9), (left + bar, 24), FAINT, 1)
    put_text(picture, f'{low:.3g}', left, 40, 9, MUTED)
    end = f'{high:.3g}'
    put_text(picture, end, left + bar - 14 - text_width(end, 9) // 2, 40, 9, MUTED)
