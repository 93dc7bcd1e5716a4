"""Remove duplicate images, so that an image that a source holds twice counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource


def distinct_images(source: ImageSource, digests: Sequence[bytes]) -> ImageSource:
    """Return a source without duplicate images.

    Args:
        source: N images.
        digests: A checksum of each image's pixels, such as ``batches.digests_of`` gives.

    Returns:
        The first of each set of identical images, in order; ``notes`` tells how many were left out.
    """
    first = first_occurrences(digests)
    if first.all():
        return source
    kept = source.subset(np.flatnonzero(first))
    copies = len(source) - len(kept)
    return replace(kept, notes=(
        *kept.notes,
        f'{source.name}: {copies} of {len(source)} images are copies of others; identical images '
        f'count once, so {len(kept)} are used',
    ))


def first_occurrences(digests: Sequence[bytes]) -> np.ndarray:
    """Return which images are not copies of earlier ones, bool (N,), from their checksums."""
    seen: set[bytes] = set()
    first = np.zeros(len(digests), bool)
    for index, digest in enumerate(digests):
        first[index] = digest not in seen
        seen.add(digest)
    return first
