"""Images of a tiny network's classes, numbered in the order of other names."""

from __future__ import annotations

import numpy as np
import tiny

from nav_monitor_ros.data.image_source import from_arrays

NAMES = ('dog', 'bus', 'cat')  # of the tiny network's outputs; no folder has them in this order
ORDERS = (('bus', 'cat', 'dog'), ('cat', 'dog', 'bus'), ('dog', 'bus', 'cat'))


def source(count=60, seed=5, names=NAMES, own=ORDERS[0], name='pictures'):
    """Return images of the tiny network's classes, numbered in the order ``own`` of their names."""
    pixels, labels = tiny.images(seed, count)
    numbers = np.array([own.index(names[label]) for label in labels])
    return from_arrays(name, pixels, numbers, class_names=tuple(own))


def truth(count=60, seed=5):
    return tiny.images(seed, count)[1].tolist()
