"""Read the images of ROS 2 bags one at a time, without ROS.

A bag is a folder with ``metadata.yaml`` (or without it, if the recorder was killed or is still
running), or a single file of it: SQLite (``.db3``, with its write-ahead log or rollback journal) or
MCAP, compressed by file, by message (zstd) or by chunk (zstd, lz4), with an index or without. The
contents of a file are checked before they are trusted: nothing outside the bag's folder is opened,
a message or chunk larger than 256 MiB, packed or unpacked, is refused, and so are compressed files
that unpack to more than 16 GiB or half of the free disk space. A truncated file is read up to where
it ends.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nav_monitor_ros.data.bags.bag_folder import files_of, miscounts
from nav_monitor_ros.data.bags.open_storage import TemporaryCopies, open_storage
from nav_monitor_ros.data.bags.storage import ENTRY, IMAGE_TYPES, BagDamagedError, Storage, Topic
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.exif_orientation import IGNORE
from nav_monitor_ros.perception.image_messages import decode_message

MAX_PIXELS = 50_000_000  # fields of an image message, before it is decoded
_COMPRESSED = 'sensor_msgs/msg/CompressedImage'
_MOST_PROBLEMS = 3  # listed in a message


@dataclass(frozen=True)
class ImageTopic:
    """Image topic of a bag."""

    name: str
    type: str  # sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage
    count: int  # messages found


@dataclass(frozen=True, eq=False)
class BagImage:
    """One message of a bag: an image, or another requested type."""

    topic: str
    type: str  # such as sensor_msgs/msg/Image
    stamp_ns: int  # nanoseconds, from the message header
    received_ns: int  # nanoseconds, when the recorder received it
    frame_id: str
    message: Any  # has the fields of its type

    def decode(self, *, max_pixels: int = MAX_PIXELS, exif: str = IGNORE) -> DecodedImage:
        """Return the pixels, decoded as by the node.

        Args:
            max_pixels: Largest accepted ``width * height``.
            exif: ``apply`` rotates a compressed image according to its EXIF orientation, ``ignore``
                does not.

        Raises:
            ImageError: The message cannot be used.
        """
        return decode_message(
            self.message, compressed=self.type == _COMPRESSED, max_pixels=max_pixels, exif=exif
        )


class Bag:
    """Images of selected topics of a bag, in the order in which they were received.

    Only an index is kept in memory, 48 bytes per image, plus at most two unpacked chunks per file.
    Images can be read in any order; iteration reads all of them and finally raises an error if some
    could not be read. Only one thread may read at a time.
    """

    def __init__(
        self,
        path: Path,
        storages: Sequence[Storage],
        damage: str,
        resources: ExitStack,
        types: Collection[str] = IMAGE_TYPES,
    ) -> None:
        """Wrap the open files of a bag; ``open_bag`` opens them.

        Args:
            path: Path for messages.
            storages: One per file that could be opened.
            damage: Problems of the other files, '' if there are none.
            resources: Exit stack that is closed with the bag.
            types: Types of the messages that are read.
        """
        self.path = path
        self._types = types
        self._storages = tuple(storages)
        self.damage = next((d for d in (damage, *(s.damage for s in storages)) if d), '')
        self._topics = tuple(dict.fromkeys(t for storage in storages for t in storage.topics))
        self._entries, self._files, self._numbers = self._join()
        counts = np.bincount(self._numbers, minlength=len(self._topics))
        self.image_topics = tuple(
            ImageTopic(topic.name, topic.type, int(count))
            for topic, count in zip(self._topics, counts, strict=True) if topic.holds(types)
        )
        self._close = weakref.finalize(self, resources.close)

    def __enter__(self) -> Bag:
        """Return the bag itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self.close()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._entries)

    @property
    def received_ns(self) -> np.ndarray:
        """Return the receive times of the images, int64 (N,), nanoseconds, ascending."""
        return self._entries['received_ns']

    def __getitem__(self, index: int) -> BagImage:
        """Return one image.

        Raises:
            IndexError: The index is out of range.
            BagDamagedError: It cannot be read.
        """
        entry, topic = self._entries[index], self._topics[self._numbers[index]]
        try:
            data = self._storages[self._files[index]].read(entry)
        except (BagDamagedError, OSError) as error:
            raise BagDamagedError(f'bag {self.path} is damaged: {one_line(error)}') from None
        return self._message(topic, int(entry['received_ns']), data)

    def __iter__(self) -> Iterator[BagImage]:
        """Yield all images that can be read.

        Raises:
            BagDamagedError: After the last one, if anything could not be read.
        """
        lost, first = 0, ''
        for index in range(len(self)):
            try:
                image = self[index]
            except BagDamagedError as error:
                lost, first = lost + 1, first or str(error)
                continue
            yield image
        if lost or self.damage:
            reason = first or f'bag {self.path} is damaged: {one_line(self.damage)}'
            raise BagDamagedError(
                f'{reason} ({len(self) - lost} images were read, {lost} of those found were not)'
            )

    def select(self, topics: Sequence[str]) -> None:
        """Keep only some topics.

        Args:
            topics: Their names; a leading slash may be omitted.

        Raises:
            NavMonitorError: A topic is missing or holds no images.
        """
        names = {self._find(topic) for topic in topics}
        chosen = [number for number, topic in enumerate(self._topics) if topic.name in names]
        kept = np.isin(self._numbers, chosen)
        self._entries, self._files, self._numbers = (
            self._entries[kept], self._files[kept], self._numbers[kept]
        )

    def close(self) -> None:
        """Close the files and remove the unpacked copies."""
        self._close()

    def _join(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all entries sorted by time, (N,), with their files and topics, int64 (N,).

        An entry keeps the number of its topic within its file.
        """
        known = {topic: number for number, topic in enumerate(self._topics)}
        entries, numbers = [np.zeros(0, ENTRY)], [np.zeros(0, np.int64)]
        for storage in self._storages:
            own = np.array([known[topic] for topic in storage.topics], np.int64)
            entries.append(storage.entries)
            numbers.append(own[storage.entries['topic']])
        files = np.repeat(np.arange(-1, len(self._storages)), [len(part) for part in entries])
        joined = np.concatenate(entries)
        order = np.argsort(joined['received_ns'], kind='stable')
        return joined[order], files[order], np.concatenate(numbers)[order]

    def _find(self, wanted: str) -> str:
        absolute = wanted if wanted.startswith('/') else f'/{wanted}'
        found = [topic for topic in self._topics if topic.name in (wanted, absolute)]
        images = [topic for topic in found if topic.holds(self._types)]
        if images:
            return images[0].name
        there = ', '.join(f'{t.name} ({t.count})' for t in self.image_topics) or 'none'
        problem = (
            f'holds {one_line(found[0].type)} ({one_line(found[0].serialization)}), no images'
            if found else 'is not there'
        )
        damage = f' (the bag is damaged: {one_line(self.damage)})' if self.damage else ''
        raise NavMonitorError(
            f"topic '{one_line(wanted)}' of bag {self.path} {problem}; topics with images: "
            f'{one_line(there, 1000)}{damage}'
        )

    def _message(self, topic: Topic, received_ns: int, data: bytes) -> BagImage:
        try:
            message = _typestore().deserialize_cdr(data, topic.type)
        except Exception as error:  # rosbags raises various exceptions
            raise BagDamagedError(
                f'bag {self.path} is damaged: a message of {one_line(topic.name)} is not a '
                f'{topic.type}: {one_line(error)}'
            ) from None
        header = message.header
        return BagImage(
            topic=topic.name,
            type=topic.type,
            stamp_ns=header.stamp.sec * 1_000_000_000 + header.stamp.nanosec,
            received_ns=received_ns,
            frame_id=header.frame_id,
            message=message,
        )


def open_bag(
    path: str | Path, topics: Sequence[str] = (), *, types: Collection[str] = IMAGE_TYPES
) -> Bag:
    """Open a bag and index its images.

    Args:
        path: Folder of the bag, or one of its files.
        topics: Topics to read, all by default; a leading slash may be omitted.
        types: Types of the messages that are read, with a header each.

    Returns:
        The bag; close it, or use it in a ``with`` block. A damaged bag contains whatever could be
        read, and ``damage`` describes the rest.

    Raises:
        NavMonitorError: The bag does not exist, is unreadable or lists files outside its folder, a
            topic is missing or holds no images, or rosbags is not installed.
    """
    path = Path(os.path.expanduser(path))
    _typestore()
    with ExitStack() as resources:
        storages, problems = [], []
        files = files_of(path)
        copies = TemporaryCopies(resources)
        for file in files.found:
            try:
                storage, cut = open_storage(file, copies, types)
            except (OSError, BagDamagedError) as error:
                reason = getattr(error, 'strerror', None) or str(error)
                problems.append(f'{file.name}: {one_line(reason)}')
                continue
            resources.callback(storage.close)
            storages.append(storage)
            problems += [f'{file.name}: {d}' for d in (cut, storage.damage) if d]
        problems += files.problems
        if not storages:
            raise NavMonitorError(f'bag {path} cannot be read: {one_line(problems[0])}')
        problems += miscounts(files, storages, types)
        damage = one_line('; '.join(problems[:_MOST_PROBLEMS]), 400) if problems else ''
        bag = Bag(path, storages, damage, resources.pop_all(), types)
    try:
        if topics:
            bag.select(topics)
    except NavMonitorError:
        bag.close()
        raise
    return bag


@lru_cache(maxsize=1)
def _typestore() -> Any:
    """Return rosbags' types of the standard messages, without definitions from a bag."""
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise NavMonitorError(
            "reading bags needs rosbags: pip install 'nav_monitor_ros[bags]', or rosbags itself"
        ) from None
    return get_typestore(Stores.ROS2_HUMBLE)
