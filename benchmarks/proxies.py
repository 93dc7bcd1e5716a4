"""Images that are out-of-distribution by construction, made from in-distribution images alone.

They represent out-of-distribution images in the choice of the default score's members, for which
real ones must not be used. None of them is among the sources of benchmarks/evaluate.py, which
include inverted and rotated images and noise; these are omitted for that reason.
"""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.fitting.proxy_images import CORRUPTION, DOMAIN, MAKERS, make_images

CORRUPTIONS, DOMAINS = tuple(MAKERS[CORRUPTION]), tuple(MAKERS[DOMAIN])


def make(
    name: str, images: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return images of one kind, uint8 (count, h, w, channels).

    Args:
        name: One of ``CORRUPTIONS`` or ``DOMAINS``.
        images: In-distribution images, uint8 (N, h, w, channels).
        labels: int64 (N,); only images of different classes are mixed.
        count: Number of images to return.
        rng: Random generator.
    """
    kind = CORRUPTION if name in CORRUPTIONS else DOMAIN
    return make_images(MAKERS[kind][name], images, labels, count, rng)
