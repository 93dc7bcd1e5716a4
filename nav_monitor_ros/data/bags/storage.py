"""Common interface of the files of a ROS 2 bag; their contents are not trusted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line

LARGEST = 256 << 20  # bytes, largest message or chunk, compressed or not
MOST = 1 << 22  # messages read per file: 38 hours of a camera at 30 Hz
LONGEST = 256  # characters of a topic's name or type
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')

# Location of a message: its receive time, the index of its topic among the file's topics, and two
# numbers that only the storage interprets.
ENTRY = np.dtype(
    [('received_ns', np.int64), ('topic', np.int64), ('place', np.int64), ('offset', np.int64)]
)


class BagDamagedError(NavMonitorError):
    """Part of a bag cannot be read; the message says which."""


@dataclass(frozen=True)
class Topic:
    """Topic, as described in a bag."""

    name: str
    type: str  # sensor_msgs/msg/Image
    serialization: str = 'cdr'

    def holds(self, types: Collection[str]) -> bool:
        """Return whether its messages can be read and have one of these types."""
        return self.type in types and self.serialization == 'cdr'


class Storage(ABC):
    """One file of a bag; only an index of the requested messages is in memory."""

    topics: tuple[Topic, ...]  # topics of any type
    entries: np.ndarray  # ENTRY (N,), messages of the requested types, in any order
    damage: str  # what could not be read, '' if everything could

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
    """Decompress at most ``largest`` bytes, whatever size the data declares.

    Args:
        data: A frame of compressed data, or the start of one.
        compression: ``zstd``, ``lz4`` (frame format), or '' for none.
        largest: Largest accepted size, bytes.

    Returns:
        The decompressed data, and whether it is complete: not if ``data`` is truncated.

    Raises:
        BagDamagedError: The data is corrupt, has another compression, or is larger than allowed.
    """
    if not compression:
        return data, True
    decompressor = _decompressor(compression)
    try:
        # One byte more than allowed distinguishes data that is too large from data that just fits.
        unpacked = decompressor.decompress(data, max_length=largest + 1)
    except Exception as error:  # zstd and lz4 define their own errors
        raise BagDamagedError(f'{compression} data is corrupt: {one_line(error)}') from None
    if len(unpacked) > largest:
        raise BagDamagedError(
            f'{compression} data unpacks to more than the {largest} bytes allowed'
        )
    return unpacked, decompressor.eof


def unpack_message(data: bytes) -> bytes:
    """Return a message, decompressed if the recorder compressed it.

    Raises:
        BagDamagedError: As for ``unpack``, or the data is truncated.
    """
    if data[: len(ZSTD_MAGIC)] != ZSTD_MAGIC:  # uncompressed data, CDR, begins with 0
        return data
    unpacked, complete = unpack(data, 'zstd')
    if not complete:
        raise BagDamagedError('a zstd-compressed message is truncated')
    return unpacked


def _decompressor(compression: str) -> Any:
    if compression == 'zstd':
        from backports import zstd

        return zstd.ZstdDecompressor()
    if compression == 'lz4':
        from lz4 import frame

        return frame.LZ4FrameDecompressor()
    raise BagDamagedError(
        f"compression '{one_line(compression)}' is not supported; zstd and lz4 are"
    )
