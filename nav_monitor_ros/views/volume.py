"""A layer's output as a volume of columns, rows and channels, with 8 bits or 1 bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nav_monitor_ros.views.activation_scale import levels_of, scale_of
from nav_monitor_ros.views.colors import NOT_A_NUMBER, WHITE, level_table
from nav_monitor_ros.views.pages.rendering import render
from nav_monitor_ros.views.pages.slides import Slide, slider

SHOWN = 0.05  # share of the scale above which a voxel is in the point cloud
_MOST_POINTS = 1 << 18  # largest number of points; 5 MB
_FORMAT = 'nav_monitor volume 1'
_LARGEST_SIDE = 512  # side of a slice's picture, pixels
_PAGE_SLICES = 128  # largest length of an axis; longer ones are subsampled


@dataclass(frozen=True)
class Volume:
    """Voxels in file format: uint8, or bits."""

    voxels: np.ndarray  # uint8 (channels, rows, columns): 0 to 255, or 0 and 1
    bits: int  # 8 or 1
    meaning: str  # meaning of a voxel, one line

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, rows and columns."""
        channels, rows, columns = self.voxels.shape
        return channels, rows, columns

    def content(self) -> bytes:
        """Return the ``.vox`` file: one byte per voxel, or eight voxels per byte, the first lowest.

        Columns vary fastest, then rows, then channels, without padding.
        """
        if self.bits == 8:
            return self.voxels.tobytes()
        return np.packbits(self.voxels.ravel(), bitorder='little').tobytes()

    def header(self, layer: str, order: Sequence[int]) -> str:
        """Return the ``.hd`` file, ``KEY: VALUE`` lines of text.

        Args:
            layer: Name of the layer.
            order: Indices of the channels in the layer, in stacking order.
        """
        channels, rows, columns = self.shape
        lines = {
            'format': _FORMAT,
            'columns': columns,
            'rows': rows,
            'channels': channels,
            'bits': self.bits,
            'bytes': len(self.content()),
            'axis_order': 'columns fastest, then rows, then channels',
            'bit_order': 'first voxel in the lowest bit' if self.bits == 1 else 'none',
            'spacing': '1 1 1',
            'value': self.meaning,
            'layer': layer,
            'channel_order': ' '.join(map(str, order)),
        }
        return ''.join(f'{key}: {value}\n' for key, value in lines.items())


def as_stack(maps: np.ndarray) -> np.ndarray:
    """Return any layer's output as float (channels, rows, columns); without extent it is a strip.

    Args:
        maps: float (C, h, w), (tokens, D) or (D,).
    """
    maps = np.asarray(maps, np.float32)
    if maps.ndim >= 3:
        return maps.reshape(len(maps), -1, maps.shape[-1])
    if maps.ndim == 2:
        return maps[None]
    return maps.reshape(1, 1, -1)


def gray_volume(stack: np.ndarray) -> Volume:
    """Return ``rint((x - min) / (max - min) * 255)`` of each value; constant layers are 0.

    Args:
        stack: float (channels, rows, columns); values that are not finite become 0.
    """
    finite = np.isfinite(stack)
    values = np.where(finite, stack, 0).astype(np.float64)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    span = high - low
    scaled = np.rint((values - low) / span * 255) if span > 0 else np.zeros(stack.shape)
    scaled[~finite] = 0
    broken = int((~finite).sum())
    note = f'; {broken} values that are NaN or infinite are 0' if broken else ''
    constant = '; the layer is constant' if finite.any() and not span > 0 else ''
    return Volume(
        scaled.astype(np.uint8), 8,
        f'0 is {low:.9g} and 255 is {high:.9g}, linear between{note}{constant}',
    )


def binary_volume(stack: np.ndarray, thresholds: np.ndarray | float, rule: str) -> Volume:
    """Return 1 where a value is above its threshold.

    Args:
        stack: float (channels, rows, columns).
        thresholds: Thresholds, broadcastable to the stack.
        rule: Origin of the thresholds, for the header.
    """
    with np.errstate(invalid='ignore'):
        on = stack > thresholds
    return Volume(on.astype(np.uint8), 1, f'1 where the neuron is on: {rule}')


def cloud(
    maps: np.ndarray, scale: tuple[float, float], *, channels: int, colormap: str
) -> np.ndarray:
    """Return the relevant voxels of a layer as points.

    The volume is one metre wide: columns along x, rows along -y, channels along z at equal
    distances. Voxels at the low end of the scale, most of a layer after a ReLU, are left out unless
    the whole layer is. Colours are those of ``draw_activations``, but values that are not finite
    are white. Rows and columns of very large layers are subsampled.

    Args:
        maps: float32 (C, h, w), (tokens, D) or (D,).
        scale: Low and high percentile of the layer's values in training.
        channels: Number of channels to show, starting with the first.
        colormap: ``viridis`` or ``inferno``, for layers without negative values; others diverge.

    Returns:
        float32 (N, 5): x, y, z, value, and the colour as four bytes B, G, R, 0.
    """
    stack = as_stack(maps)[:channels]
    step = math.ceil(math.sqrt(stack.size / _MOST_POINTS)) or 1
    values: np.ndarray = stack[:, ::step, ::step].ravel()
    fixed = scale_of(float(scale[0]), float(scale[1]), colormap, True)
    least = SHOWN * fixed.high
    # The sum is finite only if all values are, and costs less than to look at each.
    with np.errstate(over='ignore', invalid='ignore'):
        shown = np.abs(values) > least if fixed.low < 0 else values > least
        broken = None if math.isfinite(float(values.sum())) else ~np.isfinite(values)
    if broken is not None:
        shown |= broken
    places = np.flatnonzero(shown)
    if not len(places):
        places = np.arange(len(values))
    values = values[places]
    points = np.empty((len(places), 5), np.float32)
    points[:, :3] = _places(stack.shape, step)[places]
    points[:, 3] = values
    points[:, 4] = _packed(fixed.colormap)[levels_of(values, fixed)[0]]
    return points


@lru_cache(maxsize=4)
def _places(shape: tuple[int, int, int], step: int) -> np.ndarray:
    """Return the position of each voxel of a stack, float32 (N, 3), read-only."""
    channels, rows, columns = shape
    unit = 1 / max(rows, columns)
    z, y, x = np.meshgrid(
        np.arange(channels, dtype=np.float32) / max(1, channels),
        np.arange(0, rows, step, dtype=np.float32) * -unit,
        np.arange(0, columns, step, dtype=np.float32) * unit,
        indexing='ij',
    )
    places = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    places.flags.writeable = False
    return places


@lru_cache(maxsize=4)
def _packed(colormap: str) -> np.ndarray:
    """Return the colour of each level in the format of point clouds, float32 (256,)."""
    packed = np.zeros((256, 4), np.uint8)
    packed[:, :3] = level_table(colormap)[:, ::-1]
    packed[NOT_A_NUMBER, :3] = WHITE  # black would be invisible
    return packed.view('<f4')[:, 0]


def volume_page(volume: Volume, title: str, lines: Sequence[str], order: Sequence[int]) -> str:
    """Return a page that shows the volume slice by slice along each of its axes.

    Args:
        volume: What to show.
        title: Title of the page.
        lines: Facts, one sentence each.
        order: Indices of the channels in the layer, in stacking order.
    """
    levels = volume.voxels * (255 if volume.bits == 1 else 1)
    names = [f'channel {channel}' for channel in order]
    axes = []
    for axis, (name, across, down) in enumerate((
        ('channels', 'columns', 'rows'), ('rows', 'columns', 'channels'),
        ('columns', 'rows', 'channels'),
    )):
        count = levels.shape[axis]
        shown = np.unique(np.linspace(0, count - 1, min(count, _PAGE_SLICES)).astype(int))
        slides = [
            Slide(
                f'{names[place] if axis == 0 else f"{name[:-1]} {place}"}, {place + 1} of {count}',
                (_colored(np.take(levels, place, axis)),),
            )
            for place in shown
        ]
        thinned = '' if len(shown) == count else f' ({len(shown)} of {count} are on this page)'
        axes.append((
            f'Along the {name}', f'{across} to the right, {down} down{thinned}.',
            slider(
                slides, [(f'{name[:-1]} by {name[:-1]}', f'{across} x {down}')],
                name=name, what=f'slices along the {name}', enlarged=True,
            ),
        ))
    return render('volume.html', title=title, lines=lines, axes=axes)


def _colored(levels: np.ndarray) -> np.ndarray:
    """Return a coloured slice, uint8 (h, w, 3) RGB; small ones are enlarged without blur."""
    table = np.asarray(level_table('viridis')).reshape(-1, 3)
    # The ends of the table represent values outside the range.
    colored = table[1 + np.rint(levels.astype(np.float64) / 255 * 252).astype(int)]
    factor = max(1, min(8, _LARGEST_SIDE // max(levels.shape)))
    return colored.repeat(factor, axis=0).repeat(factor, axis=1).astype(np.uint8)
