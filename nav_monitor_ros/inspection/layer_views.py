"""Views of a layer's outputs: a table, a grid, a volume, and orders of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import write_file, write_files
from nav_monitor_ros.inspection.channel_order import ORDERS, channel_order, neighbour_distance
from nav_monitor_ros.inspection.inspected_network import Viewed
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.layers import Layer
from nav_monitor_ros.scores.pattern import Pattern
from nav_monitor_ros.views.activation_maps import draw_activations
from nav_monitor_ros.views.text import drawn_class
from nav_monitor_ros.views.volume import (
    Volume,
    as_stack,
    binary_volume,
    gray_volume,
    volume_page,
)

_GAP = 12  # pixels between the grids of several orders


def layer_table(viewed: Viewed) -> Table:
    """Return all layers with numbers, names, kinds and shapes."""
    table = Table(title=f'Layers of {viewed.name}, in the order of execution', title_justify='left')
    table.add_column('number', justify='right')
    table.add_column('name', overflow='fold')
    table.add_column('kind')
    table.add_column('output of one image', justify='right')
    if viewed.bundle is not None:
        table.add_column('1 % .. 99 % in training', justify='right')
    ranges = viewed.bundle.layer_ranges if viewed.bundle else {}
    for layer in viewed.classifier.layers:
        row = [str(layer.number), layer.name, layer.kind, ' x '.join(map(str, layer.shape))]
        if layer.name in ranges:
            low, high = ranges[layer.name]
            row.append(f'{low:.4g} .. {high:.4g}')
        table.add_row(*row)
    table.caption = f'monitored: {viewed.classifier.layer}, {viewed.classifier.width} neurons'
    return table


def grid(
    viewed: Viewed,
    image: np.ndarray,
    layer: Layer,
    *,
    channels: int,
    order: str,
    colormap: str,
    width: int,
    scale: str = 'training',
    title: str = '',
) -> np.ndarray:
    """Return the maps of a layer for one image as drawn by the node, uint8 (H, width, 3) RGB.

    A line above them names the network, the predicted class and the image.

    Args:
        viewed: The network.
        image: uint8 (H, W, 3) RGB or (H, W).
        layer: The layer.
        channels: Largest number of channels to show.
        order: ``strongest``, or one of ``ORDERS``.
        colormap: ``viridis`` or ``inferno``.
        width: Width of the picture, pixels.
        scale: Range of the colours: ``training``, if the bundle has that range, or ``image``.
        title: Name of the image.
    """
    seen = viewed.look(image, layer)
    maps = viewed.maps_in(seen, layer)
    limits, trained = viewed.scale(layer, maps, scale)
    given = None if order == 'strongest' else channel_order(maps, order)
    return draw_activations(
        maps, scale=limits, layer=layer.label, channels=channels, order=order,
        colormap=colormap, width=width, given=given, trained=trained,
        heading=facts(viewed, seen) + (f' for {title}' if title else ''),
    )


def ordered_grids(
    viewed: Viewed, image: np.ndarray, layer: Layer, *, channels: int, colormap: str, width: int,
    row: int | None, scale: str = 'training',
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, float]]]:
    """Draw a layer's maps in every order.

    Args:
        viewed: The network.
        image: uint8 (H, W, 3) RGB or (H, W).
        layer: The layer.
        channels: Largest number of channels to show.
        colormap: ``viridis`` or ``inferno``.
        width: Width of the picture, pixels.
        row: Row of the slice that ``k-means`` and ``pca-rows`` look at; None for the middle one.
        scale: Range of the colours: ``training``, if the bundle has that range, or ``image``.

    Returns:
        The grids stacked vertically, uint8 (H, width, 3) RGB; and by order the permutation, int64
        (C,), with its neighbour distance.

    Raises:
        NavMonitorError: The layer has no maps, or no such row.
    """
    maps = viewed.maps(image, layer)
    if maps.ndim < 3:
        raise NavMonitorError(
            f'{layer.title} has no maps to put in order; name a layer whose values lie at rows and '
            'columns'
        )
    rows = as_stack(maps).shape[1]
    if row is not None and not 0 <= row < rows:
        raise NavMonitorError(f'--row {row}: {layer.title} has rows 0 to {rows - 1}')
    limits, trained = viewed.scale(layer, maps, scale)
    orders = {name: channel_order(maps, name, row) for name in ORDERS}
    distances = {name: neighbour_distance(maps, order) for name, order in orders.items()}
    grids = [
        draw_activations(
            maps, scale=limits, layer=f'by {name}', channels=channels, order=name,
            colormap=colormap, width=width, given=order,
            note=f'neighbour distance {distances[name]:.4g}', trained=trained,
            heading='' if number else f'{layer.label} of {viewed.name}',
        )
        for number, (name, order) in enumerate(orders.items())
    ]
    gap = np.full((_GAP, grids[0].shape[1], 3), 255, np.uint8)
    stacked = [part for grid in grids for part in (grid, gap)][:-1]
    return np.concatenate(stacked), {name: (orders[name], distances[name]) for name in orders}


def volume(
    viewed: Viewed, image: np.ndarray, layer: Layer, *, bits: int, order: str
) -> tuple[Volume, np.ndarray]:
    """Return a layer's output as voxels.

    Args:
        viewed: The network.
        image: uint8 (H, W, 3) RGB or (H, W).
        layer: The layer; the bits of the monitored features are the monitor's pattern.
        bits: 8 or 1.
        order: Order of the channels, one of ``ORDERS``.

    Returns:
        The volume, and the channels' indices as they are stacked, int64 (C,).
    """
    stack = as_stack(viewed.maps(image, layer))
    # The neurons of a strip are its columns; it has only one channel.
    permutation = channel_order(stack, order) if len(stack) > 1 else np.zeros(1, np.int64)
    stack = stack[permutation]
    if bits == 8:
        return gray_volume(stack), permutation
    thresholds, rule = _thresholds(viewed, layer)
    return binary_volume(stack, thresholds, rule), permutation


def _thresholds(viewed: Viewed, layer: Layer) -> tuple[np.ndarray | float, str]:
    pattern = None
    if viewed.bundle is not None and layer == viewed.monitored:
        pattern = next(
            (s for s in viewed.bundle.scores.values() if isinstance(s, Pattern)), None
        )
    if pattern is None:
        return 0.0, 'above 0'
    return pattern.thresholds, "above the monitor's threshold of each neuron"


def write_volume(
    path: Path, found: Volume, layer: str, order: Sequence[int], title: str, lines: Sequence[str]
) -> list[Path]:
    """Write a volume as files for other programs and as a page.

    Args:
        path: Path of the ``.vox`` file; the others are written next to it.
        found: Volume to write.
        layer: Name of the layer.
        order: The channels' indices.
        title: Title of the page.
        lines: Facts for the page.

    Returns:
        The files: ``.vox``, ``.hd`` and ``.html``.

    Raises:
        NavMonitorError: They cannot be written.
    """
    files = [path.with_suffix(suffix) for suffix in ('.vox', '.hd', '.html')]
    contents = [
        found.content(),
        found.header(layer, order).encode(),
        volume_page(found, title, lines, order).encode(),
    ]
    write_files(dict(zip(files, contents, strict=True)))
    return files


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write a PNG atomically.

    Raises:
        NavMonitorError: It cannot be written, or its name does not end in ``.png``.
    """
    if path.suffix.lower() != '.png':
        raise NavMonitorError(f'{path}: pictures are written as .png')
    write_file(path, cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())


def facts(viewed: Viewed, seen: Activations) -> str:
    """Return the network's prediction for an image, one line."""
    logits = seen.logits[0].astype(np.float64)
    if not np.isfinite(logits).all():
        return f'{viewed.name} predicts nothing, as its logits are not finite,'
    best = int(logits.argmax())
    raised = np.exp(logits - logits.max())
    name = drawn_class(viewed.class_names[best], best)
    return f'{viewed.name} predicts {name} ({raised[best] / raised.sum():.1%})'
