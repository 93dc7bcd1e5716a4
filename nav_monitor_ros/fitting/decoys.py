"""Images of no class, made only from the training images."""

from __future__ import annotations

import numpy as np


def decoys(
    images: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Make images that share the training images' pixels but show no class.

    One third each: the tiles of one image in another order; two images of different classes side
    by side or one above the other; two images of different classes laid over each other.

    Args:
        images: uint8 (N, h, w, channels).
        labels: int64 (N,).
        count: Number of images to make.
        rng: Random generator.

    Returns:
        uint8 (count, h, w, channels).
    """
    makers = (shuffled, joined, overlaid)
    made = []
    for number in range(count):
        first = int(rng.integers(len(images)))
        others = np.flatnonzero(labels != labels[first])
        second = int(rng.choice(others)) if len(others) else first
        maker = makers[number % 3] if len(others) else shuffled
        made.append(maker(images[first], images[second], rng))
    return np.stack(made) if made else images[:0]


def shuffled(first: np.ndarray, _second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle the tiles of an image, 2 x 2 to 4 x 4 of them."""
    parts = int(rng.integers(2, 5))
    rows = np.array_split(np.arange(first.shape[0]), parts)
    columns = np.array_split(np.arange(first.shape[1]), parts)
    height, width = len(rows[-1]), len(columns[-1])  # the smallest tile
    result = first.copy()
    places = [(r[0], c[0]) for r in rows for c in columns]
    order = rng.permutation(len(places))
    while (order == np.arange(len(places))).all():
        order = rng.permutation(len(places))
    for (top, left), source in zip(places, order, strict=True):
        from_top, from_left = places[source]
        result[top : top + height, left : left + width] = first[
            from_top : from_top + height, from_left : from_left + width
        ]
    return result


def joined(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Join parts of two images side by side or one above the other."""
    result = first.copy()
    axis = int(rng.integers(2))
    size = first.shape[axis]
    cut = int(rng.integers(round(0.35 * size), round(0.65 * size) + 1))
    part: tuple[slice, ...] = (slice(cut, None), slice(None))
    result[part if axis == 0 else part[::-1]] = second[part if axis == 0 else part[::-1]]
    return result


def overlaid(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend two images."""
    share = rng.uniform(0.35, 0.65)
    mixed = share * first.astype(np.float32) + (1 - share) * second.astype(np.float32)
    return np.round(mixed).astype(np.uint8)
