"""A recording of class tuning as a page, with compactly packed values per checkpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.class_matching import chance_note
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.tuning.page_content import TuningContent, tuning_html
from nav_monitor_ros.tuning.recorder import OUTPUT, SHOWN
from nav_monitor_ros.tuning.recording_files import THUMBNAIL, TuningRecording
from nav_monitor_ros.tuning.selectivity import (
    FEWEST,
    MEASURES,
    PERMUTATIONS,
    Selectivity,
    selectivity,
)
from nav_monitor_ros.tuning.statistics import PREDICTED, TRUE, CheckpointTuning

_BARS = 10  # classes per component whose values are kept, those with the highest J
_TILES = 1024  # top images on the page, those in most lists
_QUALITY = 75  # JPEG quality
_NO_TILE = 0xFFFF


@dataclass(frozen=True)
class _Checkpoint:
    """Values of one checkpoint on the page, all layers concatenated."""

    found: tuple[Selectivity, ...]  # for each kind of label
    dead: np.ndarray  # bool (n,)
    broken: np.ndarray  # bool (n,)
    means: np.ndarray  # float64 (kinds, C, n)
    top: np.ndarray  # int64 (n, SHOWN)


def tuning_page(
    recording: TuningRecording,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> tuple[str, list[str]]:
    """Return the page of a recording, and a summary.

    Args:
        recording: At least one checkpoint.
        permutations: Number of permutations of the labels, for the floor below which a component is
            grey.
        seed: Random seed for the permutations.
        progress: Called with the stage, the number of images done and the total.

    Returns:
        HTML, and one sentence per line.

    Raises:
        NavMonitorError: A file of the recording cannot be read, or there is no checkpoint.
    """
    about = recording.about
    if not recording.checkpoints:
        raise NavMonitorError(f'{recording.folder} has no checkpoint yet')
    classes = len(about.class_names)
    checkpoints: list[_Checkpoint] = []
    accuracies: list[float | None] = []
    fewest = np.zeros(0, np.int64)
    images = np.zeros(0, np.int64)
    true = np.zeros(0, np.int64)
    said: list[dict[int, int]] = []
    kinds = [TRUE, PREDICTED]
    for place in range(len(recording.checkpoints)):
        seen = recording.checkpoint(place)
        if (seen.labels[TRUE] < 0).all():
            kinds = [PREDICTED]
        checkpoints.append(_measure(seen, kinds, classes, permutations, seed))
        accuracies.append(seen.accuracy)
        fewest = seen.class_counts(kinds[0], classes)
        images, true = seen.images, seen.labels[TRUE]
        said.append(dict(zip(seen.images.tolist(), seen.labels[PREDICTED].tolist(), strict=True)))
        progress('class tuning', place + 1, len(recording.checkpoints))
    tiles, sprite = _sprite(recording, checkpoints)
    known = dict(zip(images.tolist(), true.tolist(), strict=True))
    where = {image: tile for tile, image in enumerate(tiles)}
    ends = np.cumsum([len(components) for _, _, components in about.layers])[:-1]
    mean_j = np.array([
        [[part.mean() for part in np.split(found.values[0], ends)] for found in point.found]
        for point in checkpoints
    ])  # (T, kinds, layers)
    bars = min(_BARS, classes)
    label = np.uint8 if classes < 256 else np.uint16
    arrays = {
        'value': _bytes([[f.values for f in point.found] for point in checkpoints]),
        'cls': np.array([[f.classes for f in p.found] for p in checkpoints], label),
        'flags': np.array([[_flags(f, p) for f in p.found] for p in checkpoints], np.uint8),
        'top': np.array([
            [[where.get(int(image), _NO_TILE) for image in row] for row in point.top]
            for point in checkpoints
        ], np.uint16),
        'said': np.array([[answer[image] for image in tiles] for answer in said], label),
        'truth': np.array([max(known[image], 0) for image in tiles], label),
    }
    arrays |= _bars(checkpoints, bars, label)
    lines = _lines(recording, mean_j, accuracies, kinds, int((fewest < FEWEST).sum()))
    content = TuningContent(
        network=about.network,
        class_names=about.class_names,
        layers=tuple(
            (title, channels, components)
            for title, (_, channels, components) in zip(
                about.shown_layers, about.layers, strict=True)
        ),
        checkpoints=tuple(recording.checkpoints),
        accuracies=tuple(accuracies),
        kinds=tuple(('true', 'predicted')[kind] for kind in kinds),
        measures=MEASURES,
        mean_j=mean_j.tolist(),
        bars=bars,
        shown=SHOWN,
        tiles=tuple(tiles),
        tile_side=THUMBNAIL,
        sprite=sprite,
        arrays=arrays,
        lines=tuple(lines),
    )
    return tuning_html(content), lines


def _measure(
    seen: CheckpointTuning, kinds: list[int], classes: int, permutations: int, seed: int
) -> _Checkpoint:
    highest = int(seen.images.max(initial=-1)) + 1
    found = []
    for kind in kinds:
        labels_of = np.full(highest, -1)
        labels_of[seen.images] = seen.labels[kind]
        counts = seen.class_counts(kind, classes)
        found.append(_joined([
            selectivity(layer, kind, labels_of, counts, permutations, seed)
            for layer in seen.layers
        ]))
    layers = seen.layers
    with np.errstate(divide='ignore', invalid='ignore'):
        means = np.concatenate(
            [layer.sums[kinds] / layer.counts[kinds].sum(axis=3) for layer in layers], axis=2
        )
    return _Checkpoint(
        found=tuple(found),
        dead=np.concatenate([layer.dead for layer in layers]),
        broken=np.concatenate([layer.broken > 0 for layer in layers]),
        means=means,
        top=np.concatenate([layer.top_images[:, :SHOWN] for layer in layers]),
    )


def _joined(parts: list[Selectivity]) -> Selectivity:
    return Selectivity(
        values=np.concatenate([part.values for part in parts], axis=1),
        classes=np.concatenate([part.classes for part in parts], axis=1),
        floors=np.concatenate([part.floors for part in parts], axis=1),
        by_class=np.concatenate([part.by_class for part in parts], axis=1),
    )


def _flags(found: Selectivity, point: _Checkpoint) -> np.ndarray:
    """Return flags of each component: bit m is set above the floor of measure m."""
    flags = point.dead * 16 + point.broken * 32
    for number in range(len(MEASURES)):
        above = (found.values[number] > found.floors[number]) & ~point.dead
        flags = flags + above * (1 << number)
    return flags


def _bars(
    checkpoints: list[_Checkpoint], bars: int, label: type[np.unsignedinteger]
) -> dict[str, np.ndarray]:
    """Return the bars of a component: classes, their informedness, their means."""
    chosen, informed, means, lowest, highest = [], [], [], [], []
    for point in checkpoints:
        for found, mean in zip(point.found, point.means, strict=True):
            # Chosen by highest informedness, shown in the order of the classes.
            best = np.sort(np.argsort(-found.by_class, axis=0, kind='stable')[:bars], axis=0)
            own = np.nan_to_num(np.take_along_axis(mean, best, axis=0), nan=0.0)
            low, high = np.minimum(own.min(axis=0), 0), np.maximum(own.max(axis=0), 0)
            chosen.append(best.T)
            informed.append(np.take_along_axis(found.by_class, best, axis=0).T)
            width = np.where(high > low, high - low, 1)
            means.append(((own - low) / width).T)
            lowest.append(low)
            highest.append(high)
    return {
        'barClass': np.array(chosen, label),
        'barJ': _bytes(informed),
        'barMean': _bytes(means),
        'low': np.array(lowest, np.float32),
        'high': np.array(highest, np.float32),
    }


def _bytes(shares: object) -> np.ndarray:
    return np.rint(np.clip(np.asarray(shares, np.float64), 0, 1) * 255).astype(np.uint8)


def _sprite(
    recording: TuningRecording, checkpoints: list[_Checkpoint]
) -> tuple[list[int], bytes]:
    """Return the indices of the images shown, and one JPEG of them in rows of 32."""
    thumbnails = recording.thumbnails()
    uses = Counter(
        image for point in checkpoints for image in point.top.ravel().tolist()
        if image in thumbnails
    )
    tiles = sorted(image for image, _ in uses.most_common(_TILES))
    rows = max(1, -(-len(tiles) // 32))
    canvas = np.zeros((rows * THUMBNAIL, 32 * THUMBNAIL, 3), np.uint8)
    for number, image in enumerate(tiles):
        picture = thumbnails[image]
        height, width = picture.shape[:2]
        top = number // 32 * THUMBNAIL + (THUMBNAIL - height) // 2
        left = number % 32 * THUMBNAIL + (THUMBNAIL - width) // 2
        canvas[top : top + height, left : left + width] = picture
    encoded = cv2.imencode(
        '.jpg', cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )[1]
    return tiles, encoded.tobytes()


def _lines(
    recording: TuningRecording, mean_j: np.ndarray, accuracies: list[float | None],
    kinds: list[int], rare: int,
) -> list[str]:
    about = recording.about
    components = sum(len(chosen) for _, _, chosen in about.layers)
    kept = [
        f'{len(chosen)} of the {channels} of {title}'
        for title, (_, channels, chosen) in zip(about.shown_layers, about.layers, strict=True)
        if len(chosen) < channels
    ]
    lines = [
        f'{components} components of {len(about.layers)} layers, {len(recording.checkpoints)} '
        f'checkpoints, {about.images}; the response of a channel is its {about.response} over all '
        'positions'
        + (f'; evenly chosen: {", ".join(kept)}' if kept else '')
    ]
    kind = 'true' if TRUE in kinds else 'predicted'
    names = [name for name, _, _ in about.layers]
    place = names.index(OUTPUT) if OUTPUT in names else len(names) - 1
    what = (
        'the output layer' if names[place] == OUTPUT
        else f'{about.shown_layers[place]}, the last one recorded'
    )
    told = ''
    if accuracies[0] is not None and accuracies[-1] is not None:
        told = f'; accuracy {accuracies[0]:.1%} -> {accuracies[-1]:.1%}'
    lines.append(
        f'mean J of {what} ({kind} labels): {mean_j[0, 0, place]:.3f} at '
        f'{recording.checkpoints[0]} -> {mean_j[-1, 0, place]:.3f} at '
        f'{recording.checkpoints[-1]}{told}'
    )
    warning = chance_note(
        max((known for known in accuracies if known is not None), default=None),
        len(about.class_names),
    )
    if warning:
        lines.append(warning)
    if rare:
        lines.append(
            f'{rare} of {len(about.class_names)} classes have fewer than {FEWEST} images at '
            f'{recording.checkpoints[-1]} and count as driving no component'
        )
    return lines
