"""In-distribution evidence for the choice of the default score, from the cache of activations.

A world is a network, or the same network without some of its classes, with the scores fitted to its
training images. Five kinds of images represent unknown ones; all are made of in-distribution ones:

- ``corruption``: corrupted calibration images (benchmarks/proxies.py).
- ``domain``: calibration images as if of another sensor, medium or light (benchmarks/proxies.py).
- ``mixture``: features half-way between two calibration images of different predicted classes,
  with the early layers of one of them (nav_monitor_ros/fitting/fusion_weights.py).
- ``dropped``: calibration images of classes that are left out of the training images of the scores
  and of the head.
- ``near``: the same, with features moved 40 to 90 % of the way from their class's mean to that of
  the nearest other class. The network has learned to separate the dropped classes, so that
  ``dropped`` alone is easier than an object of an unknown class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import proxies

from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.calibration_split import FUSION_SHARE
from nav_monitor_ros.fitting.fusion_weights import mixtures
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.perception.network.canonical_form import canonical_head, centred
from nav_monitor_ros.perception.network.layers import INPUT
from nav_monitor_ros.scores.registry import make_score

MIXTURES = 800
DROPPED_SHARE = 0.1  # of the classes, in each of DROPS worlds
DROPS = 4
BATCH = 1000
TERMS = tuple[np.ndarray, np.ndarray, np.ndarray]  # -log p of reference, normal, unknown images


@dataclass(frozen=True)
class Cached:
    """Activations of one source and their labels, -1 where unknown."""

    seen: Activations
    labels: np.ndarray  # int64 (N,)

    @classmethod
    def load(cls, path: Path) -> Cached:
        """Read a file that zoo/activations.py wrote."""
        with np.load(path) as file:
            means = {
                f'{name.removeprefix("mean/")}{INPUT}': file[name].astype(np.float32)
                for name in file.files if name.startswith('mean/')
            }
            return cls(Activations(file['logits'], file['features'], means), file['labels'])

    def __getitem__(self, rows: np.ndarray) -> Cached:
        """Return some of the images."""
        return Cached(self.seen[rows], self.labels[rows])


@dataclass(frozen=True)
class World:
    """What the scores are fitted to, and what they are asked."""

    network: str
    head: Head | None
    watched: tuple[str, ...]
    training: Cached
    reference: Cached  # calibration images for the p-values of the members
    normal: Cached  # other calibration images
    unknown: Mapping[str, Cached]  # by the kind and the name of the images

    def terms(self, score: str, options: Mapping[str, object]) -> dict[str, TERMS] | None:
        """Return a score's -log p by the name of the unknown images; None if it does not apply."""
        count, width = self.training.seen.logits.shape[1], self.training.seen.features.shape[1]
        if score in ('channel_means', 'layer_mahalanobis'):
            options = {'layers': list(self.watched), **options}
        fitted = make_score(score, options, classes=count, width=width, head=self.head)
        seen, labels = self.training.seen, self.training.labels
        try:
            fitted.prepare(seen[:BATCH], labels[:BATCH])
            for start in range(0, len(seen), BATCH):
                rows = slice(start, start + BATCH)
                fitted.update(seen[rows], labels[rows])
            fitted.finish()
        except NavMonitorError:
            return None
        p_values = ConformalPValues(fitted.score(self.reference.seen))
        reference, normal = (
            p_values.neg_log_p_values(fitted.score(part.seen))
            for part in (self.reference, self.normal)
        )
        return {
            name: (reference, normal, p_values.neg_log_p_values(fitted.score(images.seen)))
            for name, images in self.unknown.items()
        }


def worlds_of(folder: Path, seed: int = 0) -> Iterator[World]:
    """Yield the worlds of one network: with all classes, and without some of them.

    Args:
        folder: Of the network, in the cache.
        seed: Of the division of the calibration images, the mixtures and the dropped classes.
    """
    rng = np.random.default_rng(seed)
    watched = tuple(json.loads((folder / 'layers.json').read_text())['watched'])
    head = None
    if (folder / 'network.npz').exists():
        with np.load(folder / 'network.npz') as file:
            head = Head(file['weight'], file['bias'])
    training, held_out = (Cached.load(folder / f'{n}.npz') for n in ('training', 'calibration'))
    order = rng.permutation(len(held_out.labels))
    fused = round(FUSION_SHARE * len(order))
    reference, normal = held_out[order[:fused]], held_out[order[fused:]]
    unknown = {
        f'{_kind(path.stem)}/{path.stem.removeprefix("proxy_")}': Cached.load(path)
        for path in sorted(folder.glob('proxy_*.npz'))
    }
    unknown['mixture/half'] = _mixtures(normal, rng)
    yield World(folder.name, head, watched, training, reference, normal, unknown)
    classes = rng.permutation(np.unique(training.labels))
    size = max(1, round(DROPPED_SHARE * len(classes)))
    for number in range(DROPS):
        dropped = classes[number * size : (number + 1) * size]
        view = _View(head, training.seen.logits.shape[1], dropped)
        strange = held_out[np.isin(held_out.labels, dropped)]
        parts = [view.kept(part) for part in (training, reference, normal)]
        seen = view.of(strange)
        near = _moved(seen, strange.labels, parts[0], view.head, rng)
        yield World(
            folder.name, view.head, watched, *parts,
            {f'dropped/{number}': seen, f'near/{number}': near},
        )


def _kind(stem: str) -> str:
    return 'domain' if stem.removeprefix('proxy_') in proxies.DOMAINS else 'corruption'


class _View:
    """A network without some of its classes, in canonical form."""

    def __init__(self, head: Head | None, classes: int, dropped: np.ndarray) -> None:
        self._classes = np.setdiff1d(np.arange(classes), dropped)
        self._numbers = np.full(classes, -1)
        self._numbers[self._classes] = np.arange(len(self._classes))
        self._unit, self.head = 1.0, None
        if head is not None:
            rows = replace(head, weight=head.weight[self._classes], bias=head.bias[self._classes])
            self.head, self._unit = canonical_head(rows)

    def of(self, images: Cached) -> Cached:
        seen = Activations(
            centred(images.seen.logits[:, self._classes])[0],
            images.seen.features * np.float32(self._unit), images.seen.means,
        )
        known = images.labels >= 0
        return Cached(seen, np.where(known, self._numbers[np.maximum(images.labels, 0)], -1))

    def kept(self, images: Cached) -> Cached:
        seen = self.of(images)
        return seen[seen.labels >= 0]


def _mixtures(normal: Cached, rng: np.random.Generator) -> Cached:
    mixed = mixtures(normal.seen, MIXTURES, rng)
    return Cached(mixed, np.full(len(mixed), -1))


def _moved(
    images: Cached, labels: np.ndarray, training: Cached, head: Head | None,
    rng: np.random.Generator,
) -> Cached:
    """Return images of dropped classes, moved towards the nearest kept class."""
    if head is None:
        return images
    kept = training.seen.features
    means = np.stack([
        kept[training.labels == c].mean(axis=0) for c in np.unique(training.labels)
    ]).astype(np.float64)
    features = images.seen.features.astype(np.float64)
    moved = features.copy()
    for label in np.unique(labels):
        rows = labels == label
        distances = np.square(means).sum(axis=1) - 2 * features[rows] @ means.T
        share = rng.uniform(0.4, 0.9, (int(rows.sum()), 1))
        nearest = means[distances.argmin(axis=1)]
        moved[rows] -= share * (features[rows].mean(axis=0) - nearest)
    if kept.min() >= 0:
        moved = np.maximum(moved, 0)
    entering = moved.astype(np.float32)
    logits, _ = centred(head.logits(head.entering(entering)))
    return Cached(Activations(logits, entering, images.seen.means), images.labels)
