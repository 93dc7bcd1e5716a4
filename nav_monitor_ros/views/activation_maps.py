"""The activation maps of one layer as tiles, on a fixed scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from nav_monitor_ros.views.activation_scale import draw_legend, levels_of, scale_of
from nav_monitor_ros.views.colors import (
    BACKGROUND,
    MUTED,
    NOT_A_NUMBER,
    WHITE,
    level_table,
    paint,
)
from nav_monitor_ros.views.text import placeholder, put_text, text_width

ORDERS = ('strongest', 'index')
COLORMAPS = ('viridis', 'inferno')
MIN_WIDTH = 320  # pixels
MAX_WIDTH = 3840  # pixels
PERCENTILES = (1.0, 99.0)  # percentiles of one image's values
SCALES = ('training', 'image')

_SAMPLED = 1 << 14  # number of values sampled for an image's own range
_MARGIN = 12  # margin around the tiles, pixels
_ASPECT = 0.75  # largest ratio of height to width of the tiles, if they fit
_GAP = 2  # gap between tiles, pixels
_LABEL = 12  # rows above a tile for its channel's number, pixels
_LABELLED = 30  # pixels, narrowest tile with its number
_LARGEST_CELL = 56  # pixels of one neuron of a layer without spatial extent
_ROW_LABEL = 44  # columns to the left of such a layer's rows for their first index, pixels


def image_scale(maps: np.ndarray) -> tuple[float, float]:
    """Return the range of one image's values, for use instead of that of training.

    Args:
        maps: float32, of any shape; values that are not finite are ignored.

    Returns:
        The 1st and the 99th percentile, of a sample if there are many values; NaN without any.
    """
    values = np.asarray(maps, np.float32).ravel()
    # An odd step does not stay in one column.
    sample = values[:: values.size // _SAMPLED | 1]
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return math.nan, math.nan
    low, high = np.percentile(finite, PERCENTILES)
    return float(low), float(high)


@dataclass(frozen=True)
class _Grid:
    """Layout of the tiles; all lengths are in pixels."""

    rows: int
    columns: int
    tile: tuple[int, int]  # height and width
    label: int  # rows above each tile for its number; 0 if there are none
    gap: int
    gutter: int = 0  # columns to the left of all tiles for the rows' first indices

    @property
    def places(self) -> int:
        """Return how many tiles fit."""
        return self.rows * self.columns

    @property
    def cell(self) -> tuple[int, int]:
        """Return the height and width of a tile with its label and gaps."""
        return self.tile[0] + self.label + self.gap, self.tile[1] + self.gap


def draw_activations(
    maps: np.ndarray,
    *,
    scale: tuple[float, float],
    layer: str,
    channels: int = 64,
    order: str = 'strongest',
    colormap: str = 'viridis',
    width: int = 640,
    given: np.ndarray | None = None,
    note: str = '',
    trained: bool = True,
    heading: str = '',
) -> np.ndarray:
    """Draw the maps of one layer for one image.

    Colours have the same meaning in every frame: they follow the layer's range in training,
    starting at 0, or symmetric around 0 and diverging from near white if the layer is signed.
    Values above the range itself are magenta, values below it cyan; NaN and infinity are hatched.
    A different scale is stated in the legend.

    Args:
        maps: float32 (C, h, w), or (D,) for a layer without spatial extent, whose neurons are
            drawn as one cell each, by index.
        scale: Low and high percentile of the layer's values in training, or of the image's.
        layer: Its title, for the legend.
        channels: Largest number of tiles.
        order: ``strongest`` (largest root mean square first, equal ones by index) or ``index``.
        colormap: ``viridis`` or ``inferno``, for layers without negative values.
        width: Width of the picture, pixels, kept between MIN_WIDTH and MAX_WIDTH.
        given: int (C,), an order of the channels that replaces ``order``, which then names it;
            neurons, and tokens that have no positions in the image, stay as they are.
        note: Note on the scale, replacing the default one.
        trained: Whether the scale is that of training rather than this image's own.
        heading: What is shown, for a line above the legend; '' for no such line.

    Returns:
        uint8 (H, width, 3) RGB.
    """
    width = min(max(int(width), MIN_WIDTH), MAX_WIDTH)
    shape = maps.shape
    if not maps.size:
        return placeholder((width // 3, width), f'{layer}: no values, shape {_shape_text(shape)}')
    spatial = maps.ndim > 1
    tiles = _as_tiles(maps)
    grid = _grid(min(len(tiles), max(1, channels)) if spatial else len(tiles),
                 tiles.shape[1:], width, spatial)
    count = min(grid.places, len(tiles), max(1, channels) if spatial else len(tiles))
    shown = 'by index'
    if spatial and given is not None and len(given) == len(tiles):
        chosen, shown = np.asarray(given)[:count], f'by {order}'
    elif spatial and order == 'strongest':
        chosen, shown = _strongest(tiles, count), 'strongest first'
    else:
        chosen = np.arange(count)
    fixed = scale_of(float(scale[0]), float(scale[1]), colormap, trained)
    levels, invalid = levels_of(_reduced(tiles[chosen], grid.tile), fixed)
    kind = f'{_shape_text(shape)}: ' if spatial else ''
    facts = f'{kind}{count} of {len(tiles)} {"channels" if spatial else "neurons"}, {shown}'
    note = 'NaN or infinity: hatched' if invalid else note or fixed.note
    legend = draw_legend(width, heading, layer, facts, note, fixed)
    picture, place = _framed(legend, grid)
    _draw_tiles(place, levels, grid, level_table(fixed.colormap), hatched=invalid)
    if not spatial:
        _number_rows(picture[len(legend) :], grid)
    elif grid.label:
        _number_tiles(place, grid, chosen)
    return picture


def _as_tiles(maps: np.ndarray) -> np.ndarray:
    """Return float32 (C, h, w), whatever the layer's shape."""
    maps = np.asarray(maps, np.float32)
    if maps.ndim < 2:
        return maps.reshape(-1, 1, 1)
    if maps.ndim == 2:
        return maps[None]
    return maps.reshape(len(maps), -1, maps.shape[-1])


def _shape_text(shape: tuple[int, ...]) -> str:
    return ' x '.join(map(str, shape)) or 'scalar'


def _strongest(tiles: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the channels with the largest root mean square, int64 (count,)."""
    flat = tiles.reshape(len(tiles), -1)
    energy = np.einsum('ci,ci->c', flat, flat)
    energy[np.isnan(energy)] = np.inf  # invalid values must be visible
    return np.argsort(-energy, kind='stable')[:count]


def _reduced(tiles: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Subsample maps that are much larger than their tiles."""
    steps = [max(1, size // (2 * side)) for size, side in zip(tiles.shape[1:], tile, strict=True)]
    return tiles[:, :: steps[0], :: steps[1]]


@lru_cache(maxsize=64)
def _grid(count: int, shape: tuple[int, int], width: int, spatial: bool) -> _Grid:
    """Return the layout with the largest tiles that is not higher than _ASPECT allows."""
    if not spatial:
        return _cells(count, width)
    room = width - 2 * _MARGIN
    candidates = [_tiles_in(columns, count, shape, room) for columns in range(1, count + 1)]
    fitting = [
        grid for grid in candidates
        if grid.tile[1] > 0 and grid.rows * grid.cell[0] <= _ASPECT * room
    ]
    if fitting:
        return max(fitting, key=lambda grid: (grid.tile[0] * grid.tile[1], -grid.columns))
    # Too many channels for visible tiles: as many as can be shown.
    columns = max(1, min(count, room // 6))
    grid = _tiles_in(columns, count, shape, room)
    rows = max(1, min(grid.rows, int(_ASPECT * room) // grid.cell[0]))
    return _Grid(rows, columns, grid.tile, 0, grid.gap)


def _tiles_in(columns: int, count: int, shape: tuple[int, int], room: int) -> _Grid:
    """Return the layout with the given number of columns."""
    gap = _GAP if room // columns >= 12 else 1 if room // columns >= 4 else 0
    side = room // columns - gap
    height, breadth = shape
    if side >= 3 * breadth:
        side -= side % breadth  # scale to equal pixels
    high = min(max(round(side * height / breadth), min(side, 10)), int(_ASPECT * room) - _LABEL)
    label = _LABEL if side >= _LABELLED else 0
    return _Grid(math.ceil(count / columns), columns, (max(1, high), side), label, gap)


def _cells(count: int, width: int) -> _Grid:
    """Return the layout of single neurons: square cells, a round number of them per row."""
    room = width - 2 * _MARGIN - _ROW_LABEL
    best = _Grid(1, 1, (1, 1), 0, 0, _ROW_LABEL)
    for columns in (count, 10, 16, 20, 32, 50, 64, 100, 128, 200, 256, room):
        pitch = min(room // columns, _LARGEST_CELL)
        if pitch < 1 or (columns == count and count > 16):
            continue
        rows = min(math.ceil(count / columns), max(1, int(_ASPECT * room) // pitch))
        gap = min(_GAP, pitch // 4)
        grid = _Grid(rows, columns, (pitch - gap, pitch - gap), 0, gap, _ROW_LABEL)
        shown, most = min(grid.places, count), min(best.places, count)
        if (shown, grid.tile[0]) > (most, best.tile[0]):
            best = grid
    return best


def _framed(legend: np.ndarray, grid: _Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture with the legend, and the area for the tiles."""
    top, width = legend.shape[:2]
    rows, columns = grid.rows * grid.cell[0], grid.columns * grid.cell[1]
    left = _MARGIN + grid.gutter
    if not grid.gutter:
        left = (width - columns + grid.gap) // 2
    picture = np.empty((top + rows + _MARGIN, width, 3), np.uint8)
    picture[:top] = legend
    paint(picture[top:], BACKGROUND)
    return picture, picture[top : top + rows, left : left + columns]


def _draw_tiles(
    place: np.ndarray, levels: np.ndarray, grid: _Grid, table: np.ndarray, *, hatched: bool
) -> None:
    """Enlarge the levels to tiles and colour them."""
    count, height, breadth = levels.shape
    tile_height, tile_width = grid.tile
    padded = levels
    if count < grid.places:
        padded = np.zeros((grid.places, height, breadth), np.uint8)
        padded[:count] = levels
    plane = padded.reshape(grid.rows, grid.columns, height, breadth).swapaxes(1, 2)
    plane = plane.reshape(grid.rows * height, grid.columns * breadth)
    size = grid.columns * tile_width, grid.rows * tile_height
    plane = cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)
    colored = cv2.applyColorMap(plane, table[:, None])
    if hatched:
        _hatch(colored, plane == NOT_A_NUMBER)
    cells = _cells_of(place, grid)
    cells[:, grid.label : grid.label + tile_height, :, :tile_width] = colored.reshape(
        grid.rows, tile_height, grid.columns, tile_width, 3
    )
    paint(cells[-1, :, grid.columns - (grid.places - count) :], BACKGROUND)


def _cells_of(place: np.ndarray, grid: _Grid) -> np.ndarray:
    """Return a view of the tiles' area as (rows, cell height, columns, cell width, 3)."""
    return place.reshape(grid.rows, grid.cell[0], grid.columns, grid.cell[1], 3)


def _hatch(colored: np.ndarray, where: np.ndarray) -> None:
    """Mark values that are not finite with diagonal stripes."""
    colored[where & _stripes(*where.shape)] = WHITE


@lru_cache(maxsize=4)
def _stripes(rows: int, columns: int) -> np.ndarray:
    """Return diagonal stripes, bool (rows, columns)."""
    return np.add.outer(np.arange(rows), np.arange(columns)) % 6 < 2


def _number_tiles(place: np.ndarray, grid: _Grid, chosen: np.ndarray) -> None:
    """Write the channel number above every tile."""
    numbers = _numbers(1 << int(chosen.max()).bit_length(), grid.tile[1])
    labels = np.empty((grid.places, *numbers.shape[1:]), np.uint8)
    labels[: len(chosen)] = numbers[chosen]
    labels[len(chosen) :] = BACKGROUND
    labels = labels.reshape(grid.rows, grid.columns, *numbers.shape[1:])
    cells = _cells_of(place, grid)
    cells[:, : grid.label, :, : numbers.shape[2]] = labels.swapaxes(1, 2)


@lru_cache(maxsize=8)
def _numbers(count: int, room: int) -> np.ndarray:
    """Return pictures of the numbers below ``count``, uint8 (count, rows, columns, 3)."""
    height = 7
    columns = min(room, text_width(str(count - 1), height) + 2)
    written = np.empty((count, _LABEL, columns, 3), np.uint8)
    written[:] = BACKGROUND
    for number in range(count):
        put_text(written[number], str(number), 0, _LABEL - 3, height, MUTED)
    return written


def _number_rows(picture: np.ndarray, grid: _Grid) -> None:
    """Write the first index to the left of the rows, as many as are legible."""
    pitch = grid.cell[0]
    step = math.ceil(14 / pitch)
    right = _MARGIN + grid.gutter - 8
    for row in range(0, grid.rows, step):
        index = str(row * grid.columns)
        baseline = row * pitch + max(8, (grid.tile[0] + 8) // 2)
        put_text(picture, index, right - text_width(index, 8), baseline, 8, MUTED)
