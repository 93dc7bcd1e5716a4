"""Out-of-distribution images of each network: at least five far and two near sources.

They are used for evaluation only. None of them is made in the way of a proxy
(benchmarks/proxies.py): no tiles, pairs side by side, superimposed pairs, rectangles, warps, blurs
or stretches of in-distribution images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.data.sources import open_source
from zoo.image_data import Images, cifar10_images, divide
from zoo.registry import ZooNetwork

FAR_COUNT = 500
NEAR_COUNT = 800
SLOW_COUNT = 200  # of each source for a network of 224 x 224 pixels
NEAR, FAR = 'near', 'far'
KITTI = 'bags/kitti_drive_mcap:/camera/color/image_raw/compressed'
# Digits whose mirror images are no digits; a mirrored 2 resembles a 5 or an S.
MIRRORED = (3, 4, 7, 9)
# Capital letters that resemble no digit.
LETTERS = 'ACEFHKMNRTUVWXY'
ANIMALS = (
    'aquarium_fish', 'beaver', 'bee', 'beetle', 'boy', 'chimpanzee', 'cockroach', 'crab',
    'crocodile', 'dolphin', 'flatfish', 'fox', 'hamster', 'kangaroo', 'leopard', 'lion', 'lobster',
    'mouse', 'porcupine', 'rabbit', 'raccoon', 'ray', 'snail', 'snake', 'spider', 'squirrel',
    'turtle', 'whale', 'woman', 'worm',
)
# Classes of CIFAR-100 that have no class in ImageNet-1k.
PEOPLE = ('baby', 'boy', 'girl', 'man', 'woman')
PLANTS = (
    'maple_tree', 'oak_tree', 'palm_tree', 'pine_tree', 'willow_tree', 'poppy', 'rose', 'sunflower',
    'tulip',
)
LANDSCAPES = ('cloud', 'forest', 'plain', 'road', 'skyscraper')
FAR_SOURCES: Mapping[str, tuple[str, ...]] = {
    'digits': (
        'fashion', 'signs', 'triangles', 'uniform_noise', 'gaussian_noise', 'photographs',
        'textures', 'kitti',
    ),
    'fashion': (
        'digits', 'signs', 'triangles', 'uniform_noise', 'gaussian_noise', 'photographs',
        'textures', 'kitti',
    ),
    'signs': (
        'digits', 'fashion', 'triangles', 'uniform_noise', 'gaussian_noise', 'textures',
        'tiny_imagenet', 'cifar10',
    ),
    'cifar': (
        'digits', 'fashion', 'signs', 'triangles', 'uniform_noise', 'gaussian_noise', 'textures',
    ),
    # Streets with cars would be in-distribution.
    'cifar10': (
        'digits', 'fashion', 'signs', 'triangles', 'uniform_noise', 'gaussian_noise', 'textures',
    ),
    # Clothes and street signs are classes of ImageNet.
    'imagenet': ('digits', 'triangles', 'uniform_noise', 'gaussian_noise', 'textures'),
}


def sources_of(network: ZooNetwork, data: Path) -> dict[str, tuple[str, ImageSource]]:
    """Return the sources of a network by name: near or far, and the images.

    Args:
        network: One of the registry.
        data: Folder with the data sets.
    """
    folder = str(data)
    near = {name: (NEAR, source) for name, source in _near(network, data).items()}
    family = 'digits' if network.data == 'mnist_foreign' else network.data
    far = {name: (FAR, _far(name, folder)) for name in FAR_SOURCES[family]}
    sources = {**near, **far}
    if network.data == 'imagenet':
        return {name: (kind, _some(source, SLOW_COUNT)) for name, (kind, source) in sources.items()}
    return sources


def _near(network: ZooNetwork, data: Path) -> dict[str, ImageSource]:
    if network.left_out:
        divided = divide(network.data, data)
        # Of digits and clothes there are enough test images; of signs all parts are needed.
        parts = [divided.test] if network.data != 'signs' else [
            divided.test, divided.calibration, divided.training,
        ]
        return {
            f'left_out_{name}': _source(
                f'left_out_{name}',
                np.concatenate([part.of_classes(classes).pixels for part in parts]),
            )
            for name, classes in network.left_out.items()
        }
    if network.data in ('digits', 'mnist_foreign'):
        test = divide(network.data, data).test.of_classes(MIRRORED)
        return {
            'mirrored_digits': _source('mirrored_digits', test.pixels[:, :, ::-1]),
            'letters': _source('letters', letters(NEAR_COUNT)),
        }
    if network.data == 'imagenet':
        return {
            name: _source(name, _cifar100(data, names))
            for name, names in (
                ('people', PEOPLE), ('trees_and_flowers', PLANTS), ('landscapes', LANDSCAPES),
            )
        }
    if network.data == 'cifar10':
        others = np.load(data / 'cifar100_40' / 'cifar100_40_test.npz')['x']
        return {
            'cifar100_40': _source('cifar100_40', others),
            'cifar100_other60': _source('cifar100_other60', _cifar100_other60(data).pixels),
        }
    images = _cifar100_other60(data)
    names = np.load(data / 'cifar100_40' / 'cifar100_other60.npz')['names']
    animals = np.isin(names, ANIMALS)[images.labels]
    return {
        'other60_animals': _source('other60_animals', images.pixels[animals]),
        'other60_things': _source('other60_things', images.pixels[~animals]),
        'cifar10': _far('cifar10', str(data)),
    }


def _source(name: str, pixels: np.ndarray, count: int = NEAR_COUNT) -> ImageSource:
    """Return at most ``count`` images, chosen at random."""
    order = np.random.default_rng(1).permutation(len(pixels))[:count]
    return from_arrays(name, np.ascontiguousarray(pixels[np.sort(order)]))


def _cifar100_other60(data: Path) -> Images:
    arrays = np.load(data / 'cifar100_40' / 'cifar100_other60.npz')
    return Images(arrays['x'], arrays['y'].astype(np.int64))


def _cifar100(data: Path, names: tuple[str, ...]) -> np.ndarray:
    """Return the images of some classes of CIFAR-100, from both files."""
    found = []
    for file in ('cifar100_40_test', 'cifar100_other60'):
        arrays = np.load(data / 'cifar100_40' / f'{file}.npz')
        wanted = np.flatnonzero(np.isin(arrays['names'], names))
        found.append(arrays['x'][np.isin(arrays['y'], wanted)])
    return np.concatenate(found)


@cache
def _far(name: str, folder: str) -> ImageSource:
    data = Path(folder)
    makers: dict[str, Callable[[], ImageSource]] = {
        'digits': lambda: _source(name, divide('mnist_foreign', data).test.pixels, FAR_COUNT),
        'fashion': lambda: open_source(f'sample:fashion_mnist?split=test&limit={FAR_COUNT}'),
        'signs': lambda: _source(name, divide('signs', data).test.pixels, FAR_COUNT),
        'triangles': lambda: open_source(f'sample:triangles?count={FAR_COUNT}'),
        'uniform_noise': lambda: open_source(f'sample:noise?count={FAR_COUNT}'),
        'gaussian_noise': lambda: _source(name, gaussian_noise(FAR_COUNT), FAR_COUNT),
        'photographs': lambda: open_source(f'sample:photos?count={FAR_COUNT}'),
        'textures': lambda: open_source(f'sample:textures?count={FAR_COUNT}'),
        'kitti': lambda: kitti(data, FAR_COUNT),
        'tiny_imagenet': lambda: _some(open_source(f'{data}/images/tiny_imagenet'), FAR_COUNT),
        'cifar10': lambda: _source(name, cifar10_images(data).pixels, FAR_COUNT),
    }
    return makers[name]()


def _some(source: ImageSource, count: int) -> ImageSource:
    order = np.random.default_rng(1).permutation(len(source))[:count]
    return source.subset(np.sort(order))


def gaussian_noise(count: int) -> np.ndarray:
    """Return independent normal pixels, uint8 (count, 32, 32, 3)."""
    values = np.random.default_rng(2).normal(127.5, 64, (count, 32, 32, 3))
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def kitti(data: Path, count: int) -> ImageSource:
    """Return random squares of KITTI frames."""
    frames = open_source(f'{data}/{KITTI}')
    rng = np.random.default_rng(3)
    squares = []
    for index in range(count):
        frame = frames.image(index * len(frames) // count)
        side = round(rng.uniform(0.5, 1.0) * min(frame.shape[:2]))
        top, left = (rng.integers(0, size - side + 1) for size in frame.shape[:2])
        squares.append(frame[top : top + side, left : left + side].copy())
    return from_arrays('kitti', squares)


def letters(count: int) -> np.ndarray:
    """Return capital letters in the form of MNIST's digits, uint8 (count, 28, 28).

    White strokes on black, in a box of 20 pixels, centred by mass. Font, stroke, slant and
    rotation vary.
    """
    rng = np.random.default_rng(4)
    fonts = (
        cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
        cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    )
    drawn = []
    while len(drawn) < count:
        canvas = np.zeros((240, 240), np.uint8)
        letter = LETTERS[rng.integers(len(LETTERS))]
        font = fonts[rng.integers(len(fonts))]
        cv2.putText(canvas, letter, (60, 180), font, 5.0, 255, int(rng.integers(12, 24)),
                    cv2.LINE_AA)
        slant, angle = rng.uniform(-0.25, 0.25), rng.uniform(-12, 12)
        matrix = cv2.getRotationMatrix2D((120, 120), angle, 1.0)
        matrix[:, 1] += slant * matrix[:, 0]
        matrix[0, 2] -= slant * 120
        canvas = cv2.warpAffine(canvas, matrix, (240, 240))
        rows, columns = (np.flatnonzero(canvas.any(axis=axis)) for axis in (1, 0))
        box = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        scale = 20 / max(box.shape)
        size = tuple(max(1, round(side * scale)) for side in box.shape[::-1])
        small = cv2.resize(box, size, interpolation=cv2.INTER_AREA)
        drawn.append(_centred(small))
    return np.stack(drawn)


def _centred(small: np.ndarray) -> np.ndarray:
    """Return a picture of 28 x 28 with the centre of mass in the middle, as MNIST has it."""
    mass = small.astype(float)
    middle = [
        float((np.arange(size) * mass.sum(axis=1 - axis)).sum() / mass.sum())
        for axis, size in enumerate(small.shape)
    ]
    top, left = (
        int(np.clip(round(14 - centre), 0, 28 - size))
        for centre, size in zip(middle, small.shape, strict=True)
    )
    picture = np.zeros((28, 28), np.uint8)
    picture[top : top + small.shape[0], left : left + small.shape[1]] = small
    return picture
