"""Random access to images, whatever their origin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np

from nav_monitor_ros.data.array_files import ArrayFile
from nav_monitor_ros.data.class_matching import network_labels, numbers_are_names
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.exif_orientation import APPLY

_ROWS_TRIED = 8  # of an image, which tell most colour images from gray ones

_Source = TypeVar('_Source', bound='ImageSource')


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images with random access."""

    name: str  # specification that it was opened with
    read: Callable[[int], np.ndarray]  # index in the source -> uint8 (H, W, 3) or (H, W)
    places: np.ndarray  # int64 (N,): indices of this source's images for ``read``
    # int64 (N,): indices into ``class_names``, or the source's own numbers. Other packages get
    # labels from ``numbered_for``.
    own_labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None  # names of the source's classes
    groups: np.ndarray | None = None  # (N,): equal values belong together
    # int64 (N,), nanoseconds: when the recorder received each image.
    received_ns: np.ndarray | None = None
    # As ``read``, with the image rotated according to its EXIF orientation; None without EXIF.
    read_turned: Callable[[int], np.ndarray] | None = None
    notes: tuple[str, ...] = ()  # notes for the user, such as images left out
    file_name: Callable[[int], str] | None = None  # index in the whole source -> file, if any

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    def image(self, index: int) -> np.ndarray:
        """Return one image, uint8 (H, W, 3) RGB or (H, W) gray.

        Raises:
            NavMonitorError: Its file cannot be read.
        """
        return self.read(int(self.places[index]))

    def image_name(self, index: int) -> str:
        """Return the name of an image for messages: its file, or its number in the whole source."""
        place = int(self.places[index])
        if self.file_name is not None:
            return f'image {self.file_name(place)}'
        return f'image {place} (counted from 0) of {self.name}'

    def label_name(self, index: int, class_names: Sequence[str] | None = None) -> str:
        """Return the true class of an image as text; '' if it is unknown.

        Args:
            index: Of the image.
            class_names: In the order of the labels; None for the source's own names, or its numbers
                if it has none.
        """
        if self.own_labels is None:
            return ''
        number, names = int(self.own_labels[index]), class_names or self.class_names
        return str(number) if names is None else names[number]

    def subset(self: _Source, indices: np.ndarray) -> _Source:
        """Return some of the images, in the order given."""
        return replace(
            self,
            places=self.places[indices],
            own_labels=None if self.own_labels is None else self.own_labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            received_ns=None if self.received_ns is None else self.received_ns[indices],
        )

    def oriented(self: _Source, exif: str) -> _Source:
        """Return the images as a network was trained on them.

        Args:
            exif: ``Preprocess.exif`` of the network.
        """
        if exif != APPLY or self.read_turned is None:
            return self
        return replace(self, read=self.read_turned, read_turned=None)

    def digest(self, index: int) -> bytes:
        """Return a checksum of one image's pixels and shape."""
        return digest_of(self.image(index))

    def fingerprint(self) -> str:
        """Return a SHA-256 of all images and labels, independent of their order."""
        return fingerprint_of(add_fingerprints(
            self.fingerprint_part(index, self.digest(index)) for index in range(len(self))
        ))

    def fingerprint_part(self, index: int, digest: bytes) -> int:
        """Return the contribution of one image and its label to the fingerprint.

        Args:
            index: Index of the image.
            digest: Return value of ``digest`` for it.
        """
        text = str(-1 if self.own_labels is None else int(self.own_labels[index]))
        return int.from_bytes(hashlib.sha256(digest + text.encode()).digest(), 'big')

    def numbered_for(
        self, class_names: Sequence[str], background: int | None = None
    ) -> NumberedSource:
        """Return the images with labels in a network's class numbering.

        Args:
            class_names: In the order of the network's outputs.
            background: Index of the background class's output, for the message.

        Raises:
            NavMonitorError: The images have a class that the network does not have.
        """
        given = {one.name: getattr(self, one.name) for one in fields(ImageSource)}
        if self.own_labels is not None:
            given['own_labels'] = network_labels(self, class_names, background)
            # Numbers stay numbers, so that the note that position decides is repeated.
            named = self.class_names is not None or numbers_are_names(self, class_names)
            given['class_names'] = tuple(class_names) if named else None
        return NumberedSource(**given)


@dataclass(frozen=True, eq=False)
class NumberedSource(ImageSource):
    """Images whose labels are outputs of a network; created by ``ImageSource.numbered_for``."""

    @property
    def labels(self) -> np.ndarray | None:
        """Return the network output of each image's class, int64 (N,), or None without labels."""
        return self.own_labels


def digest_of(image: np.ndarray) -> bytes:
    """Return a checksum of an image's pixels and shape.

    An image of three equal channels has that of the gray image: a folder returns gray pictures as
    RGB, an array or a bag returns them as they are.
    """
    some = image[:: max(1, len(image) // _ROWS_TRIED)]
    if image.ndim == 3 and _is_gray(some) and _is_gray(image):
        image = image[..., 0]
    checksum = hashlib.sha256(repr(image.shape).encode())
    checksum.update(np.ascontiguousarray(image).data)
    return checksum.digest()


def _is_gray(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())


def add_fingerprints(parts: Iterable[int]) -> int:
    """Return the fingerprint of all images together."""
    return sum(parts) % (1 << 256)


def fingerprint_of(total: int) -> str:
    """Return a fingerprint in its written form."""
    return f'{total:064x}'


def from_arrays(
    name: str,
    images: np.ndarray | ArrayFile | Sequence[np.ndarray],
    labels: np.ndarray | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    groups: np.ndarray | None = None,
) -> ImageSource:
    """Return a source of images in memory.

    Args:
        name: Name for messages.
        images: uint8 (H, W, 3) RGB or (H, W) each.
        labels: int64 (N,).
        class_names: In the order of the labels.
        groups: (N,), equal values for images that belong together.

    Raises:
        NavMonitorError: Images, labels and groups differ in number, images are not uint8 or are
            empty, or labels are not integers.
    """
    read = images.__getitem__
    if isinstance(images, (np.ndarray, ArrayFile)):
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or images.shape[3:] not in ((), (1,), (3,))
            or 0 in images.shape[1:3]
        ):
            raise NavMonitorError(
                f"source '{name}': images are {images.dtype} {images.shape}, not uint8 "
                '(N, H, W) or (N, H, W, 3)'
            )
        if images.shape[3:] == (1,):
            def read(place: int) -> np.ndarray:
                return images[place][..., 0]
    for what, values in (('labels', labels), ('groups', groups)):
        if values is not None and values.shape != (len(images),):
            raise NavMonitorError(
                f"source '{name}': {len(images)} images, but {what} of shape {values.shape}"
            )
    return ImageSource(
        name=name,
        read=read,
        places=np.arange(len(images)),
        own_labels=None if labels is None else _whole_numbers(name, labels),
        class_names=class_names,
        groups=groups,
    )


def _whole_numbers(name: str, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind in 'biu' or (
        labels.dtype.kind == 'f' and bool((np.mod(labels, 1) == 0).all())
    ):
        return labels.astype(np.int64)
    raise NavMonitorError(
        f"source '{name}': labels are {labels.dtype}, not whole numbers; number the classes"
    )


def split(source: _Source, fraction: float, seed: int) -> tuple[_Source, _Source]:
    """Split a source at random into two, as ``split_indices`` does.

    Returns:
        The remainder and the part.

    Raises:
        NavMonitorError: One of the parts would be empty.
    """
    rest, part = split_indices(source, fraction, seed)
    return source.subset(rest), source.subset(part)


def split_indices(
    source: ImageSource, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of a source's images in two random parts.

    Images of one group stay together; without groups the split is stratified by class.

    Args:
        source: At least two images (or groups).
        fraction: Share of the second part, in (0, 1).
        seed: Equal seeds give equal parts.

    Returns:
        int64 (M,) and (K,), both ascending: the remainder and the part.

    Raises:
        NavMonitorError: One of the parts would be empty.
    """
    rng = np.random.default_rng(seed)
    if source.groups is not None:
        unique = rng.permutation(np.unique(source.groups))
        chosen = np.isin(source.groups, unique[: round(len(unique) * fraction)])
    else:
        chosen = np.zeros(len(source), bool)
        labels = np.zeros(len(source), int) if source.own_labels is None else source.own_labels
        # Sorting by class after a shuffle and taking evenly spaced images stratifies the split.
        order = rng.permutation(len(source))
        order = order[np.argsort(labels[order], kind='stable')]
        count = round(len(source) * fraction)
        chosen[order[(np.arange(count) / max(fraction, 1e-9)).astype(int)]] = True
    if chosen.all() or not chosen.any():
        groups = '' if source.groups is None else f' in {len(np.unique(source.groups))} groups'
        raise NavMonitorError(
            f"source '{source.name}' has {len(source)} images{groups}, too few to be split"
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def without(source: _Source, excluded: ImageSource) -> _Source:
    """Return the images of ``source`` that are not in ``excluded``, compared by pixel values."""
    digests = [source.digest(index) for index in range(len(source))]
    left = set(digests)
    for index in range(len(excluded)):
        left.discard(excluded.digest(index))
    return source.subset(np.flatnonzero([digest in left for digest in digests]))
