"""Image files for tests of sources, and functions to read them."""

from __future__ import annotations

import gzip
import struct

import cv2
import numpy as np
import pytest

from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError


def pictures(count, seed=0, shape=(6, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_picture(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[:, :, ::-1])


def write_idx(path, array, kind=8):
    header = struct.pack('>BBBB', 0, 0, kind, array.ndim) + struct.pack(
        f'>{array.ndim}I', *array.shape
    )
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == '.gz' else content)


def all_images(source):
    return [source.image(index) for index in range(len(source))]


def refused(spec):
    """Return the one-line error with which a source is refused."""
    with pytest.raises(NavMonitorError) as caught:
        all_images(open_source(str(spec)))
    assert '\n' not in str(caught.value)
    return str(caught.value)
