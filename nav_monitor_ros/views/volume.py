"""A layer's output as a volume: columns, rows and channels, in eight bits or one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.views.colors import ABOVE, HIGHEST, LOWEST, level_table
from nav_monitor_ros.views.page import page, section
from nav_monitor_ros.views.slides import STYLE, Slide, slides_html

SHOWN = 0.05  # share of the scale that a voxel of a point cloud has to exceed
_FORMAT = 'nav_monitor volume 1'
_LARGEST_SIDE = 512  # of a slice's picture, pixels
_PAGE_SLICES = 128  # along an axis; more are thinned out
_STYLE = """
.axes { display: grid; gap: 0 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.axes .slides output { min-width: 0; flex-basis: 100%; }
.axes .slides img.fine { max-width: 512px; }
"""


@dataclass(frozen=True)
class Volume:
    """Voxels as they are written: uint8, or bits."""

    voxels: np.ndarray  # uint8 (channels, rows, columns): 0 to 255, or 0 and 1
    bits: int  # 8 or 1
    meaning: str  # of a voxel, one line

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, rows and columns."""
        channels, rows, columns = self.voxels.shape
        return channels, rows, columns

    def content(self) -> bytes:
        """Return the ``.vox`` file: a byte a voxel, or eight voxels a byte, the first lowest.

        The columns run fastest, then the rows, then the channels, without padding between them.
        """
        if self.bits == 8:
            return self.voxels.tobytes()
        return np.packbits(self.voxels.ravel(), bitorder='little').tobytes()

    def header(self, layer: str, order: Sequence[int]) -> str:
        """Return the ``.hd`` file, ``KEY: VALUE`` lines of text.

        Args:
            layer: Its name.
            order: The channels' indices in the layer, as they are stacked.
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
    """Return float (channels, rows, columns) of any layer's output; one without extent is a strip.

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
        stack: float (channels, rows, columns); what is not finite is 0.
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
        thresholds: Of each value, of a shape that fits.
        rule: Where they come from, for the header.
    """
    with np.errstate(invalid='ignore'):
        on = stack > thresholds
    return Volume(on.astype(np.uint8), 1, f'1 where the neuron is on: {rule}')


def cloud(
    maps: np.ndarray, scale: tuple[float, float], *, channels: int, colormap: str
) -> np.ndarray:
    """Return the voxels of a layer that are worth seeing as points.

    The volume is one metre wide: columns along x, rows down along -y, channels away along z, each
    channel as far from the next as the volume is deep by their number. Voxels at the low end of
    the scale, most of a layer behind a ReLU, are left out.

    Args:
        maps: float32 (C, h, w), (tokens, D) or (D,).
        scale: Low and high percentile of the layer's values in training.
        channels: Only so many channels, the first ones, are shown.
        colormap: ``viridis`` or ``inferno``, for layers without negative values; others diverge.

    Returns:
        float32 (N, 5): x, y, z, value, and the colour as four bytes B, G, R, 0.
    """
    stack = as_stack(maps)[:channels]
    low, high = scale
    signed = low < 0
    reach = max(abs(low), abs(high)) if signed else high
    reach = reach if np.isfinite(reach) and reach > 0 else 1.0
    with np.errstate(invalid='ignore'):
        shown = np.abs(stack) > SHOWN * reach if signed else stack > SHOWN * reach
    channel, row, column = np.nonzero(shown)
    values = stack[channel, row, column]
    finite = np.where(np.isfinite(values), values, reach)
    share = np.clip((finite / reach + 1) / 2 if signed else finite / reach, 0, 1)
    levels = (LOWEST + np.rint(share * (HIGHEST - LOWEST))).astype(np.uint8)
    levels[finite > reach] = ABOVE
    colors = level_table('diverging' if signed else colormap)[levels]
    points = np.empty((len(values), 5), np.float32)
    _, rows, columns = stack.shape
    unit = 1 / max(rows, columns)
    points[:, 0] = column * unit
    points[:, 1] = -row * unit
    points[:, 2] = channel / max(1, len(stack))
    points[:, 3] = values
    packed = np.zeros((len(values), 4), np.uint8)
    packed[:, :3] = colors[:, ::-1]
    points[:, 4] = packed.view(np.float32)[:, 0]
    return points


def volume_page(volume: Volume, title: str, lines: Sequence[str], order: Sequence[int]) -> str:
    """Return a page on which the volume is leafed through along each of its axes.

    Args:
        volume: What to show.
        title: Of the page.
        lines: Facts, one sentence each.
        order: The channels' indices in the layer, as they are stacked.
    """
    levels = volume.voxels * (255 if volume.bits == 1 else 1)
    names = [f'channel {channel}' for channel in order]
    parts = []
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
        thinned = '' if len(shown) == count else f' ({len(shown)} of {count} are in this page)'
        parts.append(section(
            f'Along the {name}', f'{across} to the right, {down} down{thinned}.',
            slides_html(
                slides, [(f'{name[:-1]} by {name[:-1]}', f'{across} x {down}')],
                name=name, what=f'slices along the {name}', enlarged=True,
            ),
        ))
    axes = '\n'.join(f'<div>{part}</div>' for part in parts)
    return page(title, lines, f'<div class="axes">{axes}</div>', STYLE + _STYLE)


def _colored(levels: np.ndarray) -> np.ndarray:
    """Return a slice in colours, uint8 (h, w, 3) RGB, small ones enlarged without blur."""
    table = np.asarray(level_table('viridis')).reshape(-1, 3)
    # The table's ends stand for values outside of the range.
    colored = table[1 + np.rint(levels.astype(np.float64) / 255 * 252).astype(int)]
    factor = max(1, min(8, _LARGEST_SIDE // max(levels.shape)))
    return colored.repeat(factor, axis=0).repeat(factor, axis=1).astype(np.uint8)
