"""Orders of a layer's channels in which neighbours resemble each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

ORDERS = ('index', 'k-means', 'pca-rows', 'pca-maps', 'leaves')
_CLUSTERS = 8
_SEED = 0
_WIDE = 512  # values per channel above which maps are projected before leaf ordering


def neighbour_distance(maps: np.ndarray, order: np.ndarray) -> float:
    """Return the sum of the L2 distances between neighbours.

    Args:
        maps: float (C, ...).
        order: int (C,), a permutation.
    """
    rows = _rows(maps)[order]
    return float(np.linalg.norm(np.diff(rows, axis=0), axis=1).sum())


def channel_order(maps: np.ndarray, method: str, row: int | None = None) -> np.ndarray:
    """Return a permutation of the channels that places similar ones next to each other.

    Every method is deterministic: seeds are fixed, the largest component of an eigenvector is
    positive, and ties are resolved by index.

    Args:
        maps: float (C, h, w), (C, w) or (C,); values that are not finite count as 0.
        method: ``index``: as the layer has them. ``k-means``: clusters of one slice (row ``row`` of
            each map), clusters and their members by their first principal component.
            ``pca-rows``: the first principal component of that slice. ``pca-maps``: that of whole
            maps. ``leaves``: the optimal leaf ordering of an average-linkage tree of whole maps
            (Bar-Joseph, Gifford and Jaakkola, Bioinformatics 17, 2001).
        row: Row of the slice; by default the middle one.

    Returns:
        int64 (C,).

    Raises:
        KeyError: The method does not exist.
    """
    maps = np.nan_to_num(np.asarray(maps, np.float64), posinf=0.0, neginf=0.0)
    order = _METHODS[method](maps, row)
    return np.asarray(order, np.int64)


def _rows(maps: np.ndarray) -> np.ndarray:
    maps = np.nan_to_num(np.asarray(maps, np.float64), posinf=0.0, neginf=0.0)
    return maps.reshape(len(maps), -1)


def _slice(maps: np.ndarray, row: int | None) -> np.ndarray:
    if maps.ndim < 3:
        return maps.reshape(len(maps), -1)
    grid = maps.reshape(len(maps), -1, maps.shape[-1])
    return grid[:, grid.shape[1] // 2 if row is None else row]


def _first_component(rows: np.ndarray) -> np.ndarray:
    """Return each row's coordinate on the first principal axis, float64 (C,)."""
    centred = rows - rows.mean(axis=0)
    if len(rows) < 2 or not centred.any():
        return np.zeros(len(rows))
    fitted = PCA(n_components=1, svd_solver='full').fit(rows)
    axis = fitted.components_[0]
    return centred @ (axis * np.sign(axis[np.abs(axis).argmax()]))


def _by_index(maps: np.ndarray, _row: int | None) -> np.ndarray:
    return np.arange(len(maps))


def _by_rows(maps: np.ndarray, row: int | None) -> np.ndarray:
    return np.argsort(_first_component(_slice(maps, row)), kind='stable')


def _by_maps(maps: np.ndarray, _row: int | None) -> np.ndarray:
    return np.argsort(_first_component(_rows(maps)), kind='stable')


def _by_clusters(maps: np.ndarray, row: int | None) -> np.ndarray:
    rows = _slice(maps, row)
    place = _first_component(rows)
    count = min(_CLUSTERS, len(np.unique(rows, axis=0)))
    if count < 2:
        return np.argsort(place, kind='stable')
    found = KMeans(count, n_init=10, random_state=_SEED).fit_predict(rows)
    middle = np.array([place[found == cluster].mean() for cluster in range(count)])
    return np.lexsort((np.arange(len(rows)), place, found, middle[found]))


def _by_leaves(maps: np.ndarray, _row: int | None) -> np.ndarray:
    rows = _rows(maps)
    if len(rows) < 3:
        return np.arange(len(rows))
    if rows.shape[1] > _WIDE and len(rows) > 1:
        # Distances stay as they are: the projection is onto the space that the rows span.
        rows = PCA(svd_solver='full').fit_transform(rows)
    tree = linkage(rows, 'average')
    return leaves_list(optimal_leaf_ordering(tree, rows))


_METHODS: Mapping[str, Callable[[np.ndarray, int | None], np.ndarray]] = {
    'index': _by_index,
    'k-means': _by_clusters,
    'pca-rows': _by_rows,
    'pca-maps': _by_maps,
    'leaves': _by_leaves,
}
