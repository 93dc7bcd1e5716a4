"""ROC curves and their simplification for drawing."""

from __future__ import annotations

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]  # false and true positive rates, float (N,) each


def roc_curve(normal: np.ndarray, strange: np.ndarray) -> Curve | None:
    """Return false and true positive rates, from none flagged to all; None without images."""
    normal, strange = normal[~np.isnan(normal)], strange[~np.isnan(strange)]
    if not len(normal) or not len(strange):
        return None
    _, places = np.unique(np.concatenate([normal, strange]), return_inverse=True)
    places = places.reshape(-1)
    rates = [
        np.bincount(part, minlength=places.max() + 1)[::-1].cumsum() / len(part)
        for part in (places[:len(normal)], places[len(normal):])
    ]
    return np.append(0.0, rates[0]), np.append(0.0, rates[1])


def thinned(curve: Curve, low: float | None, tolerance: float) -> Curve:
    """Simplify a curve without a visible change.

    Args:
        curve: x and y, float (N,), both non-decreasing, in [0, 1].
        low: Lower end of a logarithmic x axis; None for a linear one.
        tolerance: Largest deviation of the curve, in panel widths.
    """
    x, y = curve
    u = x
    if low is not None:
        # A straight line between two vertices is curved on this axis.
        more = np.geomspace(low, 1, 200)
        x, y = np.append(x, more), np.append(y, np.interp(more, x, y))
        order = np.lexsort([y, x])
        x, y = np.maximum(x[order], low), y[order]
        u = 1 - np.log(x) / np.log(low)
    kept = _vertices(u, y, tolerance)
    return x[kept], y[kept]


def _vertices(x: np.ndarray, y: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which vertices of a line to keep (Douglas and Peucker, 1973), bool (N,)."""
    kept = np.zeros(len(x), bool)
    kept[[0, -1]] = True
    open_parts = [(0, len(x) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        across, up = x[last] - x[first], y[last] - y[first]
        right, above = x[first:last] - x[first], y[first:last] - y[first]
        length = np.hypot(across, up)
        off = abs(across * above - up * right) / length if length else np.hypot(right, above)
        furthest = first + int(off.argmax())
        if off.max() > tolerance:
            kept[furthest] = True
            open_parts += [(first, furthest), (furthest, last)]
    return kept
