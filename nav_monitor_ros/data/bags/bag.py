"""Bags of ROS 2 as a source of images, read without ROS, one image at a time.

A bag is a folder with ``metadata.yaml`` (or without, if the recorder was killed or still runs), or
one of its files alone: SQLite (``.db3``, with its write-ahead log or rollback journal) or MCAP,
compressed by file, by message (zstd) or by chunk (zstd, lz4), with an index or without. What a file
says is checked before it is believed: nothing outside the bag's folder is opened, a message or
chunk is refused beyond 256 MiB, packed or unpacked, and the files of a compressed bag beyond 16 GiB
or half of the free disk. What lies before the end of a file that breaks off is read.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np

from nav_monitor_ros.data.bags import sqlite3_journals, storage_mcap, storage_sqlite3
from nav_monitor_ros.data.bags.storage import (
    ENTRY,
    IMAGE_TYPES,
    ZSTD_MAGIC,
    BagDamagedError,
    Storage,
    Topic,
)
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.paths import listed, reachable
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.files.untrusted_yaml import read_yaml
from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.exif_orientation import APPLY, IGNORE
from nav_monitor_ros.perception.image_encodings import decode

METADATA = 'metadata.yaml'
MAX_PIXELS = 50_000_000  # of an image, before it is decoded
LARGEST_FILES = 16 << 30  # bytes that the compressed files of a bag may unpack to
_MOST_FILES = 10_000
_ENDINGS = ('.mcap', '.db3')  # of the files of a folder without metadata
_COMPRESSED = 'sensor_msgs/msg/CompressedImage'
_STORAGES: dict[bytes, Callable[[Path, Collection[str]], Storage]] = {
    storage_mcap.MAGIC: storage_mcap.McapStorage,
    storage_sqlite3.MAGIC: storage_sqlite3.Sqlite3Storage,
}


@dataclass(frozen=True)
class ImageTopic:
    """A topic of a bag whose messages are images."""

    name: str
    type: str  # sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage
    count: int  # messages that can be found


@dataclass(frozen=True, eq=False)
class BagImage:
    """One message of a bag that holds an image, or has another type that was asked for."""

    topic: str
    type: str  # such as sensor_msgs/msg/Image
    stamp_ns: int  # nanoseconds, the message's own
    received_ns: int  # nanoseconds, when the recorder had it
    frame_id: str
    message: Any  # with the fields of its type

    def decode(self, *, max_pixels: int = MAX_PIXELS, exif: str = IGNORE) -> DecodedImage:
        """Return the pixels, as the node makes them of the same message.

        Args:
            max_pixels: Largest accepted ``width * height``.
            exif: Whether a compressed image is turned as its EXIF says, ``ignore`` or ``apply``.

        Raises:
            ImageError: The message cannot be used.
        """
        message = self.message
        if self.type == _COMPRESSED:
            return decode_compressed(
                message.format, message.data, max_pixels=max_pixels, exif=exif
            )
        return decode(
            message.encoding,
            message.height,
            message.width,
            message.step,
            bool(message.is_bigendian),
            message.data,
            max_pixels=max_pixels,
        )


class Bag:
    """The images of some topics of a bag, in the order in which they were received.

    Only an index is in memory, 48 bytes an image, with at most two unpacked chunks a file. Any
    image can be asked for; iterating reads them all and ends with an error if some could not be.
    One thread at a time may read.
    """

    def __init__(
        self,
        path: Path,
        storages: Sequence[Storage],
        damage: str,
        resources: ExitStack,
        types: Collection[str] = IMAGE_TYPES,
    ) -> None:
        """Take the opened files of a bag; ``open_bag`` opens them.

        Args:
            path: For messages.
            storages: One for each file that could be opened.
            damage: What is wrong with the others, '' for nothing.
            resources: Is closed with the bag.
            types: Of the messages that are read.
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
        """Return when each image was received, int64 (N,), nanoseconds, rising."""
        return self._entries['received_ns']

    def __getitem__(self, index: int) -> BagImage:
        """Return one image.

        Raises:
            IndexError: There are fewer.
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
        """Leave some topics only.

        Args:
            topics: Their names; a leading slash may be left out.

        Raises:
            NavMonitorError: One of them is not there, or holds no images.
        """
        names = {self._find(topic) for topic in topics}
        chosen = [number for number, topic in enumerate(self._topics) if topic.name in names]
        kept = np.isin(self._numbers, chosen)
        self._entries, self._files, self._numbers = (
            self._entries[kept], self._files[kept], self._numbers[kept]
        )

    def close(self) -> None:
        """Close the files and remove what was unpacked."""
        self._close()

    def _join(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the entries of all files by time, (N,), with their files and topics, int64 (N,).

        The entries keep the number that their topic has in its own file.
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
        except Exception as error:  # what rosbags raises depends on where the data is wrong
            raise BagDamagedError(
                f'bag {self.path} is damaged: a message of {one_line(topic.name)} is no '
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
        path: A bag's folder, or a file of it.
        topics: Whose images are wanted, all by default; a leading slash may be left out.
        types: Of the messages that are read, with a header each.

    Returns:
        The bag; close it, or use it in a ``with`` block. What could be read of a damaged one is
        there, and ``damage`` says what could not.

    Raises:
        NavMonitorError: There is no bag, nothing of it can be read, it names files outside its
            folder, a topic is missing or holds no images, or rosbags is not installed.
    """
    path = Path(os.path.expanduser(path))
    _typestore()
    with ExitStack() as resources:
        storages, problems = [], []
        files, missing = _files_of(path)
        room = _Room(resources)
        for file in files:
            try:
                storage, cut = _open_file(file, room, types)
            except (OSError, BagDamagedError) as error:
                reason = getattr(error, 'strerror', None) or str(error)
                problems.append(f'{file.name}: {one_line(reason)}')
                continue
            resources.callback(storage.close)
            storages.append(storage)
            problems += [f'{file.name}: {d}' for d in (cut, storage.damage) if d]
        problems += missing
        if not storages:
            raise NavMonitorError(f'bag {path} cannot be read: {one_line(problems[0])}')
        damage = one_line(problems[0], 400) if problems else ''
        bag = Bag(path, storages, damage, resources.pop_all(), types)
    try:
        if topics:
            bag.select(topics)
    except NavMonitorError:
        bag.close()
        raise
    return bag


def open_bag_source(spec: str, path: Path, topic: str) -> ImageSource:
    """Return the images of one topic of a bag as a source without labels, for any thread.

    Of a damaged bag it has the images that are left, and a warning is logged.

    Args:
        spec: The whole specification, for messages.
        path: Of the bag.
        topic: Its name; '' is answered with those that are there.

    Raises:
        NavMonitorError: As for ``open_bag``.
    """
    bag = open_bag(path, [topic] if topic else [])
    if not topic:
        names = ', '.join(t.name for t in bag.image_topics) or 'it has none'
        bag.close()
        raise NavMonitorError(
            f"source '{spec}': name the topic with images, {path}:TOPIC, one of: "
            f'{one_line(names, 1000)}'
        )
    if bag.damage:
        logging.getLogger(__name__).warning(
            'bag %s is damaged (%s); %d images are left', path, bag.damage, len(bag)
        )

    turn = threading.Lock()  # one thread at a time reads, any number decode

    def read(place: int, exif: str = IGNORE) -> np.ndarray:
        with turn:
            image = bag[place]
        try:
            raw = image.decode(exif=exif)
        except NavMonitorError as error:
            raise NavMonitorError(
                f'bag {path}, topic {topic}, image {place} (stamp {image.stamp_ns}): {error}'
            ) from None
        return raw.gray() if raw.order == 'gray' else raw.rgb()

    return ImageSource(
        str(path), read, np.arange(len(bag)), received_ns=bag.received_ns,
        read_turned=lambda place: read(place, APPLY),
    )


@lru_cache(maxsize=1)
def _typestore() -> Any:
    """Return rosbags' knowledge of ROS's own messages; no definition from a bag goes into it."""
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise NavMonitorError(
            "reading bags needs rosbags: pip install 'nav_monitor_ros[bags]', or rosbags itself"
        ) from None
    return get_typestore(Stores.ROS2_HUMBLE)


def _files_of(path: Path) -> tuple[list[Path], list[str]]:
    """Return the files of a bag that are there, and one line for each that is not."""
    if not reachable(path).exists():
        raise NavMonitorError(f'bag {path} does not exist')
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise NavMonitorError(f'bag {path} is neither a folder nor a file')
    metadata = path / METADATA
    if not reachable(metadata).exists():
        return _unlisted(path), [
            f'it has no {METADATA}, as if the recorder was killed or has not ended; `ros2 bag '
            f'reindex {path}` writes one'
        ]
    files, missing = [], []
    for name in _listed(path, metadata):
        # Up to version 3 of the format the bag's own folder comes first.
        file = path / PurePosixPath(name).name
        _require_inside(path, file)
        try:
            there = file.is_file()
        except OSError:  # such as a name that is too long
            there = False
        if there:
            files.append(file)
        else:
            missing.append(f'{METADATA} lists {one_line(name)}, which is not there')
    if not files and missing:
        raise NavMonitorError(f'bag {path} cannot be read: {missing[0]}')
    return files, missing


def _unlisted(path: Path) -> list[Path]:
    """Return the files of a bag that nothing describes, by how they are called."""
    files = sorted(
        file for file in listed(path)
        if file.name.removesuffix('.zstd').endswith(_ENDINGS) and file.is_file()
    )[:_MOST_FILES]
    if not files:
        raise NavMonitorError(
            f'bag {path} has no {METADATA} and no file of a bag ({", ".join(_ENDINGS)}); is it the '
            'folder that `ros2 bag record` made?'
        )
    for file in files:
        _require_inside(path, file)
    return files


def _listed(path: Path, metadata: Path) -> list[str]:
    """Return the files that a bag's metadata name."""
    _require_inside(path, metadata)
    described = read_yaml(metadata)
    try:
        information = described['rosbag2_bagfile_information']
        names = information['relative_file_paths']
        compression = information.get('compression_format') or 'zstd'
    except (KeyError, TypeError, AttributeError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else 'it is no description'
        raise NavMonitorError(
            f'{metadata} does not describe a bag: {reason}; write it anew with `ros2 bag reindex`'
        ) from None
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not listed or not 0 < len(names) <= _MOST_FILES:
        raise NavMonitorError(
            f'{metadata} does not describe a bag: relative_file_paths is no list of files; write '
            'it anew with `ros2 bag reindex`'
        )
    if compression != 'zstd':
        raise NavMonitorError(
            f"bag {path} is compressed as '{one_line(compression)}', which is not read; zstd is"
        )
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith('/') or '..' in parts or '\0' in name:
            raise NavMonitorError(
                f"{metadata} names a file outside the bag: '{one_line(name)}'; the bag is not "
                'opened'
            )
    return names


def _require_inside(folder: Path, file: Path) -> None:
    try:
        inside = file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, names that no system takes
        inside = False
    if not inside:
        raise NavMonitorError(
            f'{one_line(file)} leads out of the bag {folder}; the bag is not opened'
        )


class _Room:
    """The disk space that copies of a bag's files may take, unpacked or merged."""

    def __init__(self, resources: ExitStack) -> None:
        """Take nothing yet; ``resources`` removes what will be taken."""
        self._resources = resources
        self._folder: Path | None = None
        self._left = 0

    def place(self, size: int) -> Path:
        """Return an empty folder for copies of so many bytes.

        Raises:
            BagDamagedError: There is no room for them.
        """
        folder = self._resources.enter_context(scratch_folder())
        free = shutil.disk_usage(folder).free
        if 2 * size > free:
            raise BagDamagedError(
                f'a copy needs {size} bytes, and {folder} has {free} free, of which half is used; '
                'set TMPDIR to a larger one'
            )
        return folder

    def unpack(self, file: Path) -> tuple[Path, str]:
        """Return a decompressed copy of a zstd file, and what is wrong with it, '' for nothing.

        Raises:
            BagDamagedError: It unpacks to more than there is room for.
        """
        from backports import zstd

        if self._folder is None:
            folder = self._resources.enter_context(scratch_folder())
            self._folder = folder
            self._left = min(LARGEST_FILES, shutil.disk_usage(folder).free // 2)
        target = self._folder / f'{len(list(self._folder.iterdir()))}'
        damage = ''
        with target.open('wb') as plain, file.open('rb') as packed, zstd.open(packed) as source:
            try:
                while block := source.read(1 << 20):
                    self._left -= len(block)
                    if self._left < 0:
                        raise BagDamagedError('it unpacks to more than there is room for')
                    plain.write(block)
            except (zstd.ZstdError, EOFError, MemoryError) as error:
                damage = f'its zstd data ends early: {one_line(error)}'
        return target, damage


def _open_file(file: Path, room: _Room, types: Collection[str]) -> tuple[Storage, str]:
    """Open one file of a bag by what it begins with; also return what cut it off, '' for nothing.

    Raises:
        OSError: It cannot be read.
        BagDamagedError: It is of no format that is read.
    """
    damage = ''
    if _beginning(file).startswith(ZSTD_MAGIC):
        file, damage = room.unpack(file)
    beginning = _beginning(file)
    if beginning.startswith(storage_sqlite3.MAGIC) and not damage:
        return _open_sqlite3(file, room, types)
    for magic, storage in _STORAGES.items():
        if beginning.startswith(magic):
            return storage(file, types), damage
    size = file.stat().st_size
    what = f'it holds {size} bytes that are neither MCAP nor SQLite' if size else 'it is empty'
    raise BagDamagedError(f'{what}{": " * bool(damage)}{damage}')


def _open_sqlite3(file: Path, room: _Room, types: Collection[str]) -> tuple[Storage, str]:
    """Open an SQLite file merged with what lies beside it; anew where a writer was met halfway."""
    for last in (False, False, True):
        copy, left_out = sqlite3_journals.merged(file, room.place)
        before = sqlite3_journals.states(file)
        try:
            storage = storage_sqlite3.Sqlite3Storage(copy, types)
        except BagDamagedError as error:
            if last or sqlite3_journals.states(file) == before:
                raise BagDamagedError('; '.join(filter(None, (left_out, str(error))))) from None
        else:
            if last or not storage.damage or sqlite3_journals.states(file) == before:
                return storage, left_out
            storage.close()
        time.sleep(sqlite3_journals.PAUSE)
    raise AssertionError('unreachable')


def _beginning(file: Path) -> bytes:
    with file.open('rb') as stream:
        return stream.read(16)
