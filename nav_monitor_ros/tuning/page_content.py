"""Contents of the class tuning page, packed for the script that draws it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.views.pages.data_uris import data_uri
from nav_monitor_ros.views.pages.rendering import render

# Okabe and Ito's colours first, then Tol's muted ones; colour-blind people can distinguish them as
# far as possible with twelve colours, and every component also has its class's letter.
CLASS_COLORS = (
    '#e69f00', '#56b4e9', '#009e73', '#f0e442', '#0072b2', '#d55e00', '#cc79a7', '#332288',
    '#882255', '#999933', '#117733', '#aa4499',
)
_TEXT = {
    'informedness': ('J', 'informedness J (Youden): share of the class minus share of the others '
                     'above the best threshold'),
    'precision': ('precision@100', 'share of the class among the 100 images with the strongest '
    'response'),
    'csi': ('CSI', "class selectivity index (Morcos): the strongest class's mean against the mean "
            'of the others'),
    'nmi': ('NMI', 'normalised mutual information of response and class'),
}


@dataclass(frozen=True, eq=False)
class TuningContent:
    """Contents of the page: T checkpoints, K kinds of labels, n components of all layers."""

    network: str
    class_names: tuple[str, ...]
    layers: tuple[tuple[str, int, tuple[int, ...]], ...]  # title, channels, recorded channels
    checkpoints: tuple[str, ...]
    accuracies: tuple[float | None, ...]
    kinds: tuple[str, ...]  # true, predicted
    measures: tuple[str, ...]
    mean_j: list[list[list[float]]]  # (T, K, layers)
    bars: int  # classes whose values are kept per component
    shown: int  # top images of a component
    tiles: tuple[int, ...]  # indices of the images in the sprite
    tile_side: int  # pixels
    sprite: bytes  # JPEG, 32 tiles per row
    arrays: Mapping[str, np.ndarray]
    lines: tuple[str, ...]  # lines below the title


def tuning_html(content: TuningContent) -> str:
    """Return the page, a self-contained HTML file."""
    packed, directory = [], {}
    start = 0
    for name, values in content.arrays.items():
        aligned = np.ascontiguousarray(values)
        start += -start % 4
        kind = {'uint8': 'Uint8Array', 'uint16': 'Uint16Array', 'float32': 'Float32Array'}
        directory[name] = [kind[aligned.dtype.name], start, aligned.size]
        packed.append((start, aligned.astype(aligned.dtype.newbyteorder('<')).tobytes()))
        start += aligned.nbytes
    whole = bytearray(start)
    for place, part in packed:
        whole[place : place + len(part)] = part
    meta = {
        'classes': content.class_names,
        'marks': marks(content.class_names),
        'colors': [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(content.class_names))],
        'layers': [
            {'title': title, 'channels': channels, 'components': components}
            for title, channels, components in content.layers
        ],
        'checkpoints': content.checkpoints,
        'accuracies': content.accuracies,
        'kinds': content.kinds,
        'measures': [[name, *_TEXT[name]] for name in content.measures],
        'meanJ': [
            [[round(value, 4) for value in layers] for layers in kinds]
            for kinds in content.mean_j
        ],
        'bars': content.bars,
        'shown': content.shown,
        'tiles': content.tiles,
        'side': content.tile_side,
        'arrays': directory,
    }
    return render(
        'tuning.html', title=f'{content.network}: class tuning over training',
        lines=content.lines, meta=meta,
        packed=base64.b64encode(zlib.compress(whole, 9)).decode('ascii'),
        sprite=data_uri('image/jpeg', content.sprite),
    )


def marks(names: tuple[str, ...]) -> list[str]:
    """Return the symbol of each class in a cell: its name if all are short, else letters."""
    if all(len(name) <= 2 for name in names):
        return list(names)
    if len(names) <= 26:
        return [chr(ord('A') + place) for place in range(len(names))]
    return [str(place) for place in range(len(names))]
