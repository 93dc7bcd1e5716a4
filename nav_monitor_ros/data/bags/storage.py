"""What the files of a ROS 2 bag have in common, whatever their format; nothing in them trusted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line

LARGEST = 256 << 20  # bytes that a message or a chunk may have, compressed or not
MOST = 1 << 22  # messages read of a file: 38 hours of a camera at 30 Hz
LONGEST = 256  # letters of a topic's name or type
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')

# Where a message lies: when it was received, its topic's place among the file's topics, and
# two numbers that only the storage understands.
ENTRY = np.dtype(
    [('received_ns', np.int64), ('topic', np.int64), ('place', np.int64), ('offset', np.int64)]
)


class BagDamagedError(NavMonitorError):
    """A part of a bag cannot be read; the text says which."""


@dataclass(frozen=True)
class Topic:
    """A topic as a bag describes it."""

    name: str
    type: str  # sensor_msgs/msg/Image
    serialization: str = 'cdr'

    def holds(self, types: Collection[str]) -> bool:
        """Return whether its messages can be read, and are of one of these types."""
        return self.type in types and self.serialization == 'cdr'


class Storage(ABC):
    """One file of a bag: an index of its messages of some types in memory, the rest on disk."""

    topics: tuple[Topic, ...]  # of any type
    entries: np.ndarray  # ENTRY (N,), the messages of the wanted types, in any order
    damage: str  # what could not be read, '' where all could

    @abstractmethod
    def read(self, entry: Any) -> bytes:
        """Return one serialised message.

        Args:
            entry: One of ``entries``.

        Raises:
            BagDamagedError: It cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def unpack(data: bytes, compression: str, largest: int = LARGEST) -> tuple[bytes, bool]:
    """Decompress at most ``largest`` bytes, whatever the data promises.

    Args:
        data: One frame of compressed data, or its beginning.
        compression: ``zstd``, ``lz4`` (its frame format), or '' for none.
        largest: In bytes.

    Returns:
        What came out, and whether that is all of it: not where ``data`` ends too early.

    Raises:
        BagDamagedError: The data is corrupt, of another compression, or larger than allowed.
    """
    if not compression:
        return data, True
    decompressor = _decompressor(compression)
    try:
        # One byte more than allowed tells what is too large from what just fits.
        unpacked = decompressor.decompress(data, max_length=largest + 1)
    except Exception as error:  # zstd, lz4 and memory have errors of their own
        raise BagDamagedError(f'{compression} data is corrupt: {one_line(error)}') from None
    if len(unpacked) > largest:
        raise BagDamagedError(
            f'{compression} data unpacks to more than the {largest} bytes allowed'
        )
    return unpacked, decompressor.eof


def unpack_message(data: bytes) -> bytes:
    """Return a message as it was before a recorder compressed it, if one did.

    Raises:
        BagDamagedError: As for ``unpack``, or the data breaks off.
    """
    if data[: len(ZSTD_MAGIC)] != ZSTD_MAGIC:  # what is not compressed, CDR, begins with 0
        return data
    unpacked, complete = unpack(data, 'zstd')
    if not complete:
        raise BagDamagedError('a message of zstd data breaks off')
    return unpacked


def _decompressor(compression: str) -> Any:
    if compression == 'zstd':
        from backports import zstd

        return zstd.ZstdDecompressor()
    if compression == 'lz4':
        from lz4 import frame

        return frame.LZ4FrameDecompressor()
    raise BagDamagedError(f"compression '{one_line(compression)}' is not read; zstd and lz4 are")
