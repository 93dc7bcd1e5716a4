"""Images that are out-of-distribution by construction, made from in-distribution images alone.

They represent out-of-distribution images in the choice of the default score's members, for which
real ones must not be used. None of them is among the sources of benchmarks/evaluate.py, which
include inverted and rotated images and noise; these are omitted here for that reason.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from nav_monitor_ros.fitting.decoys import joined, overlaid, shuffled

Maker = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def occluded(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover a tenth to a third of the image with a rectangle."""
    result = image.copy()
    height, width = image.shape[:2]
    side = rng.uniform(0.35, 0.55)
    rows, columns = int(height * side), int(width * side)
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    result[top : top + rows, left : left + columns] = rng.choice([0, 128, 255])
    return result


def warped(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Warp the image by a smooth random field, by a sixth of its height on average."""
    height, width = image.shape[:2]
    dx, dy = (
        cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), height / 9)
        for _ in 'xy'
    )
    gain = 0.16 * height / max(1e-9, float(np.sqrt(np.mean(dx**2 + dy**2))))
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    moved = cv2.remap(
        image, columns + gain * dx, rows + gain * dy, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return moved.reshape(image.shape)


def blurred(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur the image by about a tenth of its height."""
    sigma = image.shape[0] * rng.uniform(0.07, 0.12)
    return cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)


def stretched(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretch the image two to three times along one axis."""
    height, width = image.shape[:2]
    factor = rng.uniform(2.0, 3.0)
    matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    axis = int(rng.integers(2))
    matrix[axis, axis] = factor
    matrix[axis, 2] = (1 - factor) * (width, height)[axis] / 2
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return moved.reshape(image.shape)


MAKERS: dict[str, Maker] = {
    'shuffled': shuffled, 'joined': joined, 'overlaid': overlaid, 'occluded': occluded,
    'warped': warped, 'blurred': blurred, 'stretched': stretched,
}


def make(
    name: str, images: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return images of one kind, uint8 (count, h, w, channels).

    Args:
        name: One of ``MAKERS``.
        images: In-distribution images, uint8 (N, h, w, channels).
        labels: int64 (N,); only images of different classes are mixed.
        count: Number of images to return.
        rng: Random generator.
    """
    made = []
    for first in rng.integers(len(images), size=count):
        second = rng.choice(np.flatnonzero(labels != labels[first]))
        made.append(MAKERS[name](images[first], images[second], rng))
    return np.stack(made)
