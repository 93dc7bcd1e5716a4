"""Class selectivity of a component, from histograms of its responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from nav_monitor_ros.tuning.statistics import KEPT, LayerTuning, bin_centres

MEASURES = ('informedness', 'precision', 'csi', 'nmi')
PERMUTATIONS = 100
FEWEST = 5  # fewest images of a class that may drive a component; one always has some extreme
LEVEL = 0.99  # quantile of the permuted labels' selectivity, below which a component is grey
_BLOCK = 1 << 22  # values processed at a time


@dataclass(frozen=True, eq=False)
class Selectivity:
    """Selectivity of n components, and the classes for which they are selective."""

    values: np.ndarray  # float64 (4, n), in the order of MEASURES, 0 to 1
    classes: np.ndarray  # int64 (4, n), the class that drives the component most
    floors: np.ndarray  # float64 (4, n), floor from permuted labels
    by_class: np.ndarray  # float64 (C, n), informedness of each class


def informedness(counts: np.ndarray) -> np.ndarray:
    """Return how well one threshold on the response separates each class from all others.

    Youden's J (W. J. Youden, "Index for rating diagnostic tests", Cancer 3, 1950), the largest
    difference over thresholds between the share of the class and the share of the others that
    respond at least that strongly. 1: the component responds more to every image of the class than
    to any other. A component that responds less to a class is not driven by it and gets 0.

    Args:
        counts: int (C, n, B), images of each class in each bin, bins ascending.

    Returns:
        float64 (C, n), 0 to 1; 0 for a class without images.
    """
    at_least = counts[..., ::-1].cumsum(axis=-1, dtype=np.int64)
    own = at_least[..., -1:]
    everything = at_least.sum(axis=0)
    others = everything[:, -1:] - own
    with np.errstate(divide='ignore', invalid='ignore'):
        gained = at_least / own - (everything - at_least) / others
    return np.maximum(np.nan_to_num(gained.max(axis=-1), nan=0.0), 0.0)


def class_selectivity_index(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the strongest class's mean response exceeds that of all others.

    (m_max - m_others) / (m_max + m_others), m_others the mean of the other classes' means (A. S.
    Morcos et al., "On the importance of single directions for generalization", ICLR 2018).

    Args:
        means: float64 (C, n), the mean over each class of max(response, 0); NaN for a class
            without images.

    Returns:
        float64 (n,), 0 to 1, and int64 (n,), the class.
    """
    known = np.isfinite(means)
    filled = np.where(known, means, -np.inf)
    best = filled.argmax(axis=0)
    top = np.take_along_axis(np.where(known, means, 0), best[None], axis=0)[0]
    others = (np.where(known, means, 0).sum(axis=0) - top) / np.maximum(known.sum(axis=0) - 1, 1)
    total = top + others
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(total > 0, (top - others) / total, 0.0), best


def normalized_mutual_information(counts: np.ndarray) -> np.ndarray:
    """Return the normalised mutual information of the response's bin and the class.

    I(bin; class) / ((H(bin) + H(class)) / 2) (A. Strehl and J. Ghosh, "Cluster ensembles", JMLR 3,
    2002, with the arithmetic mean, as scikit-learn has it).

    Args:
        counts: int (C, n, B), images of each class in each bin.

    Returns:
        float64 (n,), 0 to 1.
    """
    joint = _surprise(counts).sum(axis=(0, 2))
    by_class = _surprise(counts.sum(axis=2, dtype=np.int64)).sum(axis=0)
    pooled = counts.sum(axis=0, dtype=np.int64)
    by_bin = _surprise(pooled).sum(axis=1)
    images = pooled.sum(axis=1)
    whole = _surprise(images)
    # With L(k) = k ln k and N images, N * H = L(N) - sum of L(counts).
    class_entropy, bin_entropy = whole - by_class, whole - by_bin
    shared = class_entropy + bin_entropy - (whole - joint)
    mean = (class_entropy + bin_entropy) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        # Rounding leaves about 1e-16 where terms cancel.
        return np.where(mean > 1e-9, np.clip(shared / mean, 0, 1), 0.0)


def precision(labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of the most frequent class among a component's top images.

    Precision at 100 (B. Zhou et al., "Object detectors emerge in deep scene CNNs", ICLR 2015).

    Args:
        labels: int64 (n, K), the labels of the top images; -1 is ignored.
        classes: C.

    Returns:
        float64 (n,), 0 to 1, and int64 (n,), the class.
    """
    found = np.stack([(labels == label).sum(axis=1) for label in range(classes)])
    best = found.argmax(axis=0)
    images = np.maximum((labels >= 0).sum(axis=1), 1)
    return np.take_along_axis(found, best[None], axis=0)[0] / images, best


def selectivity(
    layer: LayerTuning, kind: int, labels_of: np.ndarray, class_counts: np.ndarray,
    permutations: int = PERMUTATIONS, seed: int = 0,
) -> Selectivity:
    """Return the selectivity of the components of a layer.

    Classes with fewer than ``FEWEST`` images only count among the others.

    Args:
        layer: Responses of the layer.
        kind: Labels to use, ``TRUE`` or ``PREDICTED``.
        labels_of: int64 (highest image number + 1,), the label of each image, -1 if unknown.
        class_counts: int64 (C,), images of each class.
        permutations: Number of permutations of the labels, for the floor; 0 for a floor of 0.
        seed: Random seed for the permutations.
    """
    counts = layer.counts[kind]
    classes, count = counts.shape[:2]
    by_class = np.zeros((classes, count))
    nmi = np.zeros(count)
    floors = np.zeros((len(MEASURES), count))
    cuts = _permuted(class_counts, permutations, seed)
    enough = class_counts >= FEWEST
    used = np.flatnonzero(counts.any(axis=(0, 1)))
    block = max(1, _BLOCK // max(1, classes * len(used)))
    for start in range(0, count, block):
        columns = slice(start, start + block)
        part = counts[:, columns][..., used]
        by_class[:, columns] = informedness(part) * enough[:, None]
        nmi[columns] = normalized_mutual_information(part)
        floors[:, columns] = _floors(part, bin_centres()[used], cuts, enough)
    images = counts.sum(axis=2)
    with np.errstate(divide='ignore', invalid='ignore'):
        means = np.where(enough[:, None], layer.positive[kind] / images, np.nan)
    csi, csi_class = class_selectivity_index(means)
    top = np.where(layer.top_images >= 0, labels_of[layer.top_images], -1)
    share, share_class = precision(top, classes)
    best = by_class.argmax(axis=0)
    floors[1] = _precision_floor(class_counts)
    return Selectivity(
        values=np.stack([by_class.max(axis=0), share, csi, nmi]),
        classes=np.stack([best, share_class, csi_class, best]),
        floors=floors if permutations else np.zeros_like(floors),
        by_class=by_class,
    )


def _surprise(counts: np.ndarray) -> np.ndarray:
    """Return k ln k, 0 for 0."""
    found = counts.astype(np.float64)
    return found * np.log(np.maximum(found, 1))


def _permuted(class_counts: np.ndarray, permutations: int, seed: int) -> list[np.ndarray]:
    """Return permuted labels, int64 (N,) each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(class_counts)), class_counts)
    return [rng.permutation(labels) for _ in range(permutations)]


def _floors(
    counts: np.ndarray, centres: np.ndarray, permuted: list[np.ndarray], enough: np.ndarray
) -> np.ndarray:
    """Return the components' selectivity for meaningless labels, float64 (4, n).

    Images are sorted by response, given permuted labels and cut at the bin edges of the component:
    for each component, this is a draw from the multivariate hypergeometric distribution of its
    pooled histogram, without the images themselves. All components share the permutations.
    """
    classes, count, _ = counts.shape
    floors = np.zeros((len(MEASURES), count))
    if not permuted:
        return floors
    ends = counts.sum(axis=0).cumsum(axis=1)  # (n, B)
    reached = np.zeros((len(permuted), len(MEASURES), count))
    positive = np.maximum(centres, 0)
    for number, labels in enumerate(permuted):
        up_to = np.zeros((classes, len(labels) + 1), np.int64)
        up_to[:, 1:] = (labels == np.arange(classes)[:, None]).cumsum(axis=1)
        drawn = np.diff(up_to[:, ends], axis=2, prepend=0)
        reached[number, 0] = (informedness(drawn) * enough[:, None]).max(axis=0)
        with np.errstate(divide='ignore', invalid='ignore'):
            means = drawn @ positive / drawn.sum(axis=2)
        means[~enough] = np.nan
        reached[number, 2] = class_selectivity_index(means)[0]
        reached[number, 3] = normalized_mutual_information(drawn)
    return np.quantile(reached, LEVEL, axis=0, method='higher')


def _precision_floor(class_counts: np.ndarray) -> float:
    """Return the share that any class reaches among random images with probability at most 1 %."""
    images = int(class_counts.sum())
    drawn = min(KEPT, images)
    for found in range(drawn + 1):
        # P(any class has more) <= the sum over classes.
        if hypergeom.sf(found, images, class_counts, drawn).sum() <= 1 - LEVEL:
            return found / max(drawn, 1)
    return 1.0
