"""Copies among images: an image that a source holds twice is evidence once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource


def distinct_images(source: ImageSource, digests: Sequence[bytes]) -> ImageSource:
    """Return a source without the copies of images that it holds before.

    Args:
        source: N images.
        digests: A checksum of each image's pixels, such as ``batches.digests_of`` gives.

    Returns:
        The first of each set of identical images, in order; ``notes`` says how many were left out.
    """
    seen: dict[bytes, int] = {}
    for index, digest in enumerate(digests):
        seen.setdefault(digest, index)
    if len(seen) == len(source):
        return source
    kept = source.subset(np.array(list(seen.values()), np.int64))
    copies = len(source) - len(kept)
    return replace(kept, notes=(
        *kept.notes,
        f'{source.name}: {copies} of {len(source)} images are copies of others; identical images '
        f'count once, so {len(kept)} are used',
    ))
