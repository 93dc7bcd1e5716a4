"""Gradient of a convolution's filters as a volume of cubes, and slice by slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import BACKGROUND, FAINT, MUTED, ORANGE
from nav_monitor_ros.views.gradients.signed_colors import signed_colors

_MOST = 64  # cubes along an axis; longer axes are pooled in blocks
_FINE = 2  # oversampling of the picture
_DEPTH = 0.30  # share of the picture for the kernel axis, to the right and up
_CUBE = 0.92  # edge of a cube; the gap makes each one visible
_TOP, _RIGHT = 1.3, 0.55  # brightness of a cube's top and right side
_ROOM = 24  # pixels around the volume for the axes' names


@dataclass(frozen=True)
class WeightVolume:
    """Weights of a convolution as a cuboid of values."""

    values: np.ndarray  # float (filters, input channels, kernel positions)
    kernel: tuple[int, ...]  # rows and columns of the kernel

    @staticmethod
    def of(weights: np.ndarray) -> WeightVolume:
        """Return weights, or their gradient, (filters, inputs, *kernel), as a volume."""
        return WeightVolume(weights.reshape(*weights.shape[:2], -1), weights.shape[2:])

    def slice(self, position: int) -> np.ndarray:
        """Return all filters and inputs at one kernel position, (inputs, filters)."""
        return self.values[:, :, position].T

    def place(self, position: int) -> str:
        """Return the name of a kernel position for display."""
        at = np.unravel_index(position, self.kernel) if self.kernel else ()
        words = ('plane', 'row', 'column')[-len(at):] if len(at) <= 3 else ('',) * len(at)
        return ', '.join(f'{word} {index + 1}' for word, index in zip(words, at, strict=True))


def joined(values: np.ndarray, most: int = _MOST) -> tuple[np.ndarray, tuple[int, ...]]:
    """Pool the values of long axes in blocks by their strongest value.

    Args:
        values: float (A, B, C).
        most: Largest length of an axis.

    Returns:
        The shorter array of signed values, NaN if a block contains one; and the sizes of a block.
    """
    blocks = tuple(math.ceil(length / most) for length in values.shape)
    for axis, block in enumerate(blocks):
        if block == 1:
            continue
        spare = -values.shape[axis] % block
        padding = [(0, spare if other == axis else 0) for other in range(values.ndim)]
        moved = np.moveaxis(np.pad(values, padding), axis, -1)
        grouped = moved.reshape(*moved.shape[:-1], -1, block)
        # argmax treats the first NaN as the largest.
        strongest = np.abs(grouped).argmax(axis=-1, keepdims=True)
        values = np.moveaxis(np.take_along_axis(grouped, strongest, -1)[..., 0], -1, axis)
    return values, blocks


def draw_volume(
    volume: WeightVolume, reach: float, size: tuple[int, int], *, least: float = 0.0
) -> np.ndarray:
    """Draw the strong weights of a volume as cubes: filters to the right, inputs up, kernel deep.

    Args:
        volume: Volume to draw.
        reach: Magnitude with the full colour.
        size: Height and width of the picture, pixels.
        least: Smallest magnitude of a weight that is drawn; 0 is never drawn, NaN and infinity
            always, in white.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    values, blocks = joined(volume.values)
    picture = np.empty((size[0] * _FINE, size[1] * _FINE, 3), np.uint8)
    picture[:] = BACKGROUND
    frame = _frame(values.shape, (picture.shape[0], picture.shape[1]))
    _draw_box(picture, frame, values.shape)
    magnitudes = np.abs(values)
    broken = ~np.isfinite(values)
    strong = broken | ((magnitudes > 0) & (magnitudes >= least))
    _draw_cubes(picture, frame, values, strong, reach)
    small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    _name_axes(small, volume, blocks)
    if broken.any():
        _say(small, f'white: {int(broken.sum())} cubes with values that are NaN or infinite')
    elif not strong.any():
        _say(small, 'no weight is strong enough to be drawn' if np.any(volume.values)
             else 'the gradient is 0 everywhere')
    return small


def draw_slice(volume: WeightVolume, position: int, reach: float) -> np.ndarray:
    """Draw all weights at one kernel position, one pixel each, filters to the right, inputs up.

    Args:
        volume: Volume to draw.
        position: Kernel position.
        reach: Magnitude with the full colour.

    Returns:
        uint8 (inputs, filters, 3) RGB; white if a value is not finite.
    """
    values = volume.slice(position)[::-1]
    colors = signed_colors(values, reach)
    colors[~np.isfinite(values)] = 255
    return colors


@dataclass(frozen=True)
class _Frame:
    """Projection of a volume into a picture, in pixels."""

    origin: np.ndarray  # (2,): column and row of the left bottom front corner
    steps: np.ndarray  # (3, 2): steps by one filter, one input channel, one kernel position

    def corners(self, places: np.ndarray) -> np.ndarray:
        """Return columns and rows (..., 2) of positions (..., 3)."""
        return self.origin + places @ self.steps


def _frame(shape: tuple[int, ...], size: tuple[int, int]) -> _Frame:
    """Return the projection that fits a volume to a picture without distorting cubes too much."""
    filters, inputs, positions = shape
    room = np.array([size[1], size[0]]) - 2.0 * _ROOM * _FINE
    deep = room * _DEPTH / positions
    edge = (room - deep * positions) / (filters, inputs)
    # In a flat volume, an edge of a cube is at most four times the other one.
    edge = np.minimum(edge, 4 * edge[::-1])
    deep = np.minimum(deep, 2 * edge.min())
    steps = np.array([[edge[0], 0], [0, -edge[1]], [deep[0], -deep[1]]])
    extent = np.array(shape) @ np.abs(steps)
    origin = np.array([size[1] - extent[0], size[0] + extent[1]]) / 2
    return _Frame(origin, steps)


def _draw_box(picture: np.ndarray, frame: _Frame, shape: tuple[int, ...]) -> None:
    """Draw the edges of the whole volume."""
    unit = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    for plane in (0, 1):
        face = unit + [0, 0, plane]
        _outline(picture, frame.corners(face * shape))
    for corner in unit:
        _outline(picture, frame.corners(np.stack([corner, corner + [0, 0, 1]]) * shape))


def _outline(picture: np.ndarray, points: np.ndarray) -> None:
    cv2.polylines(picture, [points.round().astype(np.int32)], True, FAINT, _FINE, cv2.LINE_AA)


def _draw_cubes(
    picture: np.ndarray, frame: _Frame, values: np.ndarray, strong: np.ndarray, reach: float
) -> None:
    """Draw cubes from back to front, so that near ones cover far ones."""
    places = np.argwhere(strong)
    places = places[np.lexsort((places[:, 0], places[:, 1], -places[:, 2]))]
    chosen = values[tuple(places.T)]
    colors = signed_colors(chosen, reach)
    colors[~np.isfinite(chosen)] = 255
    sides = [
        (np.array([[0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]]), _TOP),
        (np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]]), _RIGHT),
        (np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), 1.0),
    ]
    faces = np.stack(
        [frame.corners(places[:, None] + corners * _CUBE) for corners, _ in sides], axis=1
    ).round().astype(np.int32)
    shades = np.stack([np.minimum(colors * shade, 255) for _, shade in sides], axis=1)
    for cube, cube_shades in zip(faces, shades.tolist(), strict=True):
        for face, shade in zip(cube, cube_shades, strict=True):
            cv2.fillConvexPoly(picture, face, shade)


def _name_axes(picture: np.ndarray, volume: WeightVolume, blocks: tuple[int, ...]) -> None:
    """Write the axes and the number of weights per cube below the volume."""
    canvas = Canvas(picture)
    filters, inputs, positions = volume.values.shape
    kernel = ' x '.join(map(str, volume.kernel)) or str(positions)
    text = f'right: {filters} filters; up: {inputs} inputs; deep: kernel {kernel}'
    canvas.text(text, 4, canvas.height - 6, 8, MUTED)
    if max(blocks) > 1:
        text = 'each cube: the strongest of ' + ' x '.join(map(str, blocks))
        canvas.text(text, 4, 12, 8, MUTED)


def _say(picture: np.ndarray, text: str) -> None:
    canvas = Canvas(picture)
    width = canvas.text_width(text, 9)
    canvas.text(text, max(0, (canvas.width - width) / 2), canvas.height / 2, 9, ORANGE)
