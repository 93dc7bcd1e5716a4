"""Images that can be asked for one by one, wherever they come from."""

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

_Source = TypeVar('_Source', bound='ImageSource')


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images that can be asked for one by one."""

    name: str  # the specification it was opened with
    read: Callable[[int], np.ndarray]  # place in the whole source -> uint8 (H, W, 3) or (H, W)
    places: np.ndarray  # int64 (N,): the images of this source among those that ``read`` knows
    # int64 (N,): places in ``class_names``, or whatever numbers the source has. Outside this room
    # ``numbered_for`` gives labels.
    own_labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None  # of the source's classes
    groups: np.ndarray | None = None  # (N,): equal values belong together
    received_ns: np.ndarray | None = None  # int64 (N,), nanoseconds: when a recorder had each
    # As ``read``, the picture turned as its EXIF says; None where images have no EXIF.
    read_turned: Callable[[int], np.ndarray] | None = None
    notes: tuple[str, ...] = ()  # what a person should know of it, such as images left out
    file_name: Callable[[int], str] | None = None  # place in the whole source -> file, if it is one

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
        """Return what a message calls one image: its file, or its number in the whole source."""
        place = int(self.places[index])
        if self.file_name is not None:
            return f'image {self.file_name(place)}'
        return f'image {place} (counted from 0) of {self.name}'

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
            exif: ``Preprocess.exif`` of that network.
        """
        if exif != APPLY or self.read_turned is None:
            return self
        return replace(self, read=self.read_turned, read_turned=None)

    def digest(self, index: int) -> bytes:
        """Return a checksum of one image's pixels and shape."""
        return digest_of(self.image(index))

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and labels that does not depend on their order."""
        return fingerprint_of(add_fingerprints(
            self.fingerprint_part(index, self.digest(index)) for index in range(len(self))
        ))

    def fingerprint_part(self, index: int, digest: bytes) -> int:
        """Return what one image and its label add to the fingerprint.

        Args:
            index: Of the image.
            digest: What ``digest`` returns for it.
        """
        text = str(-1 if self.own_labels is None else int(self.own_labels[index]))
        return int.from_bytes(hashlib.sha256(digest + text.encode()).digest(), 'big')

    def numbered_for(
        self, class_names: Sequence[str], background: int | None = None
    ) -> NumberedSource:
        """Return the images with their labels as a network numbers its classes.

        Args:
            class_names: In the order of the network's outputs.
            background: Which output stands for none of the classes, for the message.

        Raises:
            NavMonitorError: The images have a class that the network does not have.
        """
        given = {one.name: getattr(self, one.name) for one in fields(ImageSource)}
        if self.own_labels is not None:
            given['own_labels'] = network_labels(self, class_names, background)
            # Numbers stay numbers: what said that position decides is to say so again.
            named = self.class_names is not None or numbers_are_names(self, class_names)
            given['class_names'] = tuple(class_names) if named else None
        return NumberedSource(**given)


@dataclass(frozen=True, eq=False)
class NumberedSource(ImageSource):
    """Images whose labels are outputs of a network; ``ImageSource.numbered_for`` makes it."""

    @property
    def labels(self) -> np.ndarray | None:
        """Return the output of each image's class, int64 (N,), or None without labels."""
        return self.own_labels


def digest_of(image: np.ndarray) -> bytes:
    """Return a checksum of an image's pixels and shape."""
    checksum = hashlib.sha256(repr(image.shape).encode())
    checksum.update(np.ascontiguousarray(image).data)
    return checksum.digest()


def add_fingerprints(parts: Iterable[int]) -> int:
    """Return the fingerprint of all images together."""
    return sum(parts) % (1 << 256)


def fingerprint_of(total: int) -> str:
    """Return a fingerprint as it is written down."""
    return f'{total:064x}'


def from_arrays(
    name: str,
    images: np.ndarray | ArrayFile | Sequence[np.ndarray],
    labels: np.ndarray | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    groups: np.ndarray | None = None,
) -> ImageSource:
    """Return a source of images that are in memory.

    Args:
        name: For messages.
        images: uint8 (H, W, 3) RGB or (H, W) each.
        labels: int64 (N,).
        class_names: In the order of the labels.
        groups: (N,), equal values for images that belong together.

    Raises:
        NavMonitorError: Images, labels and groups differ in number, images are not uint8 or
            without pixels, or labels are not whole numbers.
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
    """Split a source in two at random, as ``split_indices`` does.

    Returns:
        The rest and the part.

    Raises:
        NavMonitorError: One of the two would be empty.
    """
    rest, part = split_indices(source, fraction, seed)
    return source.subset(rest), source.subset(part)


def split_indices(
    source: ImageSource, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of a source's images in two parts, drawn at random.

    Images of one group stay together; without groups each class is split alike.

    Args:
        source: At least two images (or groups).
        fraction: Share of the second part, in (0, 1).
        seed: Equal seeds give equal parts.

    Returns:
        int64 (M,) and (K,), both rising: the rest and the part.

    Raises:
        NavMonitorError: One of the two would be empty.
    """
    rng = np.random.default_rng(seed)
    if source.groups is not None:
        unique = rng.permutation(np.unique(source.groups))
        chosen = np.isin(source.groups, unique[: round(len(unique) * fraction)])
    else:
        chosen = np.zeros(len(source), bool)
        labels = np.zeros(len(source), int) if source.own_labels is None else source.own_labels
        # Sorting by class after a shuffle and taking evenly spaced images splits each class alike.
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
    """Return the images of ``source`` that do not occur in ``excluded``, compared by pixels."""
    digests = [source.digest(index) for index in range(len(source))]
    left = set(digests)
    for index in range(len(excluded)):
        left.discard(excluded.digest(index))
    return source.subset(np.flatnonzero([digest in left for digest in digests]))
