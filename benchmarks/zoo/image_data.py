"""In-distribution images of each network: for training, for calibration and for testing.

The three are disjoint. Signs are divided by whole tracks. Every network of the same data set holds
out the same images, without the classes that it leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.data.samples import FASHION_CLASSES
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.fitting.train import TRAFFIC_SIGNS
from zoo.registry import ZooNetwork

SEED = 0  # of the division
HELD_OUT = 3000  # calibration images of digits, clothes and CIFAR, before classes are left out
TESTED = 2500  # largest number of test images
SIGN_TRACKS = 0.2  # share of the training tracks that is held out for calibration


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images."""

    pixels: np.ndarray  # uint8 (N, h, w, 3) or (N, h, w)
    labels: np.ndarray  # int64 (N,)
    groups: np.ndarray | None = None  # (N,): equal values belong together

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray) -> Images:
        """Return some of the images."""
        groups = None if self.groups is None else self.groups[rows]
        return Images(self.pixels[rows], self.labels[rows], groups)

    def of_classes(self, classes: Sequence[int]) -> Images:
        """Return the images of some classes."""
        return self[np.flatnonzero(np.isin(self.labels, classes))]


@dataclass(frozen=True, eq=False)
class Divided:
    """A data set, divided; images of all classes."""

    training: Images
    calibration: Images
    test: Images
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NetworkImages:
    """The images of one network, labelled by its outputs."""

    training: ImageSource
    calibration: ImageSource
    test: ImageSource
    class_names: tuple[str, ...] | None  # None where the network has no labels here

    @property
    def labelled(self) -> bool:
        """Return whether the true classes are known."""
        return self.training.own_labels is not None


def images_of(network: ZooNetwork, data: Path) -> NetworkImages:
    """Return the images of a network.

    Args:
        network: One of the registry.
        data: Folder with the data sets.
    """
    if network.data == 'imagenet':
        return _imagenet(data)
    divided = divide(network.data, data)
    kept = [c for c in range(len(divided.class_names)) if c not in network.excluded]
    names = tuple(divided.class_names[c] for c in kept)
    number = np.full(len(divided.class_names), -1)
    number[kept] = np.arange(len(kept))

    def source(part: str, images: Images) -> ImageSource:
        images = images.of_classes(kept)
        return from_arrays(
            f'{network.name} {part}', images.pixels, number[images.labels], class_names=names,
            groups=images.groups,
        )

    training = divided.training.of_classes(kept)
    limit = network.recipe.images if network.recipe is not None else 0
    if limit:
        training = training[np.arange(min(limit, len(training)))]
    return NetworkImages(
        source('training', training),
        source('calibration', divided.calibration),
        source('test', _tested(divided.test.of_classes(kept))),
        names,
    )


def divide(name: str, data: Path) -> Divided:
    """Return a data set, divided."""
    return _divided(name, str(data))


@lru_cache(maxsize=2)
def _divided(name: str, folder: str) -> Divided:
    data = Path(folder)
    if name in ('digits', 'mnist_foreign'):
        arrays = np.load(data / 'mnist.npz')
        training = Images(arrays['x_train'], arrays['y_train'].astype(np.int64))
        test = Images(arrays['x_test'], arrays['y_test'].astype(np.int64))
        names = tuple('0123456789')
        if name == 'mnist_foreign':
            # The network was trained on all training images: only test images were held out.
            calibration, test = _in_two(_shuffled(test), HELD_OUT)
            return Divided(_shuffled(training)[np.arange(20000)], calibration, test, names)
        return _held_out(training, test, names)
    if name == 'fashion':
        training, test = (
            _read_all(open_source(f'sample:fashion_mnist?split={part}'))
            for part in ('train', 'test')
        )
        return _held_out(training, test, FASHION_CLASSES)
    if name == 'signs':
        return _signs(data)
    if name == 'cifar':
        parts = [np.load(data / 'cifar100_40' / f'cifar100_40_{p}.npz') for p in ('train', 'test')]
        training, test = (Images(part['x'], part['y'].astype(np.int64)) for part in parts)
        return _held_out(training, test, tuple(str(n) for n in parts[0]['names']))
    if name == 'cifar10':
        return _cifar10(data)
    raise ValueError(f'no data set {name}')


def _held_out(training: Images, test: Images, names: tuple[str, ...]) -> Divided:
    calibration, rest = _in_two(_shuffled(training), HELD_OUT)
    return Divided(rest, calibration, _shuffled(test), names)


def _shuffled(images: Images) -> Images:
    return images[np.random.default_rng(SEED).permutation(len(images))]


def _in_two(images: Images, first: int) -> tuple[Images, Images]:
    return images[np.arange(first)], images[np.arange(first, len(images))]


def _tested(images: Images) -> Images:
    """Return the first images, which are in random order; tracks are kept whole."""
    return images if images.groups is not None else images[np.arange(min(TESTED, len(images)))]


def _read_all(source: ImageSource) -> Images:
    assert source.own_labels is not None
    pixels = np.stack([source.image(i) for i in range(len(source))])
    return Images(pixels, source.own_labels.astype(np.int64))


def _signs(data: Path) -> Divided:
    """Divide by tracks; the test tracks are those of the file's own division."""
    arrays = np.load(data / 'gtsrb.npz')
    # Tracks are numbered within each class.
    groups = arrays['y'].astype(np.int64) * 1000 + arrays['track']
    images = Images(arrays['x'], arrays['y'].astype(np.int64), groups)
    rng = np.random.default_rng(SEED)
    held_out: list[int] = []
    for label in range(len(TRAFFIC_SIGNS)):
        own = (images.labels == label) & ~arrays['is_val']
        tracks = rng.permutation(np.unique(groups[own]))
        held_out += tracks[: max(1, round(SIGN_TRACKS * len(tracks)))].tolist()
    calibrated = np.isin(groups, held_out) & ~arrays['is_val']
    return Divided(
        images[np.flatnonzero(~calibrated & ~arrays['is_val'])],
        images[np.flatnonzero(calibrated)],
        images[np.flatnonzero(arrays['is_val'])],
        TRAFFIC_SIGNS,
    )


CIFAR10_CLASSES = (
    'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck',
)


def cifar10_images(data: Path) -> Images:
    """Return the 4000 images, which are kept one a row of 1024 pixels in PNG files."""
    files = sorted((data / 'cifar10').glob('cifar10_batch_*.png'))
    rows = np.concatenate([cv2.imread(str(file)) for file in files])
    labels = np.load(data / 'cifar10' / 'labels_lossless4000.npy').astype(np.int64)
    return Images(np.ascontiguousarray(rows.reshape(-1, 32, 32, 3)[..., ::-1]), labels)


def _cifar10(data: Path) -> Divided:
    """Divide the 4000 images, on all of which the published network was trained."""
    images = _shuffled(cifar10_images(data))
    training, rest = _in_two(images, 2000)
    calibration, test = _in_two(rest, 1000)
    return Divided(training, calibration, test, CIFAR10_CLASSES)


def _imagenet(data: Path) -> NetworkImages:
    """Divide the small photographs; the network's classes are not those of the labels' file."""
    folder = open_source(f'{data}/images/tiny_imagenet')
    pixels = np.stack([_rgb(folder.image(i)) for i in range(len(folder))])
    order = np.random.default_rng(SEED).permutation(len(pixels))
    parts = np.split(order, [1000, 1500])
    training, calibration, test = (
        from_arrays(f'efficientnet_lite0 {part}', pixels[rows])
        for part, rows in zip(('training', 'calibration', 'test'), parts, strict=True)
    )
    return NetworkImages(training, calibration, test, None)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
