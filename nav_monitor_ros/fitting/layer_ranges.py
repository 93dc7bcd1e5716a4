"""The range of every layer's outputs in training, for fixed colour scales."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.perception.network.running_network import RunningNetwork

RANGE_SAMPLE = 64  # training images used for the ranges


def layer_ranges(
    classifier: RunningNetwork, images: ImageSource, skip_invalid: bool
) -> dict[str, tuple[float, float]]:
    """Return the 1st and 99th percentile of every layer's outputs, for fixed colour scales."""
    kept, invalid = classifier.taps, InvalidImages(skip=skip_invalid)
    values: dict[str, list[np.ndarray]] = {layer.name: [] for layer in classifier.layers}
    classifier.tap(values)
    try:
        for index in range(len(images)):
            seen = classifier(classifier.preprocess.apply(images.image(index))[None])
            if not invalid.valid(images, np.array([index]), seen).all():
                continue
            for name, output in seen.maps.items():
                # A few thousand values per image suffice for a percentile.
                flat = output.reshape(-1)
                some = flat[:: max(1, flat.size // 4096)]
                values[name].append(some[np.isfinite(some)])  # attention masks are infinite
    finally:
        classifier.tap(kept)
    ranges = {}
    for name, parts in values.items():
        whole = np.concatenate([*parts, np.zeros(0, np.float32)])
        low, high = np.percentile(whole, (1, 99)) if len(whole) else (0.0, 0.0)
        ranges[name] = float(low), float(high)
    return ranges
