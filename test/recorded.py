"""Bags of a few frames, written without ROS; the tests contain the code that damages them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

RAW, PACKED, IMU = '/camera/image_raw', '/camera/image_raw/compressed', '/imu'
SIDE = 16  # pixels
START = 1_700_000_000_000_000_000  # nanoseconds
PERIOD = 33_333_333


def frame(number: int) -> np.ndarray:
    """Return a picture that is unique for its number, uint8 (16, 16, 3) RGB."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def write_bag(
    folder: Path, storage: str, *, compression: str = '', frames: int = 12, chunks: int = 1
) -> Path:
    """Write a bag with raw frames, every third one also as a PNG, and a topic without images.

    Args:
        folder: Folder to create.
        storage: ``mcap`` or ``sqlite3``.
        compression: ``file``, ``message``, ``storage`` (MCAP's chunks) or ''.
        frames: Number of frames.
        chunks: Number of chunks of an MCAP file, created by padding between frames.
    """
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    image_type, packed_type = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
    with writer:
        raw = writer.add_connection(RAW, image_type, typestore=store)
        packed = writer.add_connection(PACKED, packed_type, typestore=store)
        text = writer.add_connection(IMU, 'std_msgs/msg/String', typestore=store)
        for number in range(frames):
            received = START + number * PERIOD
            stamp_ns = received - 5_000_000
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000)), 'camera'
            )
            pixels = frame(number)
            message = types[image_type](
                header, SIDE, SIDE, 'rgb8', 0, 3 * SIDE, pixels.reshape(-1)
            )
            writer.write(raw, received, store.serialize_cdr(message, image_type))
            if number % 3 == 0:
                png = cv2.imencode('.png', pixels[:, :, ::-1])[1].reshape(-1)
                message = types[packed_type](header, 'png', png)
                writer.write(packed, received + 1, store.serialize_cdr(message, packed_type))
            # The MCAP writer starts a new chunk after 1 MiB.
            padding = 'x' * ((1 << 20) if number % max(1, frames // chunks) == 0 else 8)
            message = types['std_msgs/msg/String'](padding if chunks > 1 else 'nothing to see')
            writer.write(text, received, store.serialize_cdr(message, 'std_msgs/msg/String'))
    return folder


def write_images(
    folder: Path, topics: dict[str, list[np.ndarray | bytes | None]], *, rate: float = 30.0,
    storage: str = 'mcap', lag_ns: int = 5_000_000, packed: bool = False, stale: int = -1,
    forms: tuple[str, ...] = ('png',),
) -> Path:
    """Write a bag of pictures.

    Args:
        folder: Folder to create.
        topics: Topic -> pictures, uint8 (H, W, 3) RGB or (H, W), one per period; None for a missing
            picture; with ``packed`` also encoded pictures.
        rate: Rate of each topic, Hz.
        storage: ``mcap`` or ``sqlite3``.
        lag_ns: Time from a picture's stamp to its recording, nanoseconds.
        packed: Whether to write compressed images (PNG).
        forms: Values of the format field of compressed images, used in turn.
        stale: Number of a picture that is recorded five seconds after its stamp.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    kind = 'sensor_msgs/msg/CompressedImage' if packed else 'sensor_msgs/msg/Image'
    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=store) for topic in topics
        }
        longest = max(map(len, topics.values()))
        for number in range(longest):
            received = START + round(number * 1e9 / rate)
            stamp_ns = received - (5_000_000_000 if number == stale else lag_ns)
            for topic, pictures in topics.items():
                picture = pictures[number] if number < len(pictures) else None
                if picture is None:
                    continue
                header = types['std_msgs/msg/Header'](
                    types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9)),
                    topic.strip('/').split('/')[0],
                )
                if isinstance(picture, bytes):
                    message = types[kind](header, 'jpeg', np.frombuffer(picture, np.uint8))
                    writer.write(connections[topic], received, store.serialize_cdr(message, kind))
                    continue
                height, width = picture.shape[:2]
                channels = picture.size // (height * width)
                if packed:
                    bgr = picture[..., ::-1] if channels == 3 else picture
                    message = types[kind](
                        header, forms[number % len(forms)],
                        cv2.imencode('.png', bgr)[1].reshape(-1)
                    )
                else:
                    message = types[kind](
                        header, height, width, 'rgb8' if channels == 3 else 'mono8', 0,
                        width * channels, np.ascontiguousarray(picture).reshape(-1),
                    )
                writer.write(connections[topic], received, store.serialize_cdr(message, kind))
    return folder


def file_of(bag: Path) -> Path:
    """Return the file of a bag that contains its messages."""
    return next(path for path in bag.iterdir() if path.name != 'metadata.yaml')


def mcap_record(kind: int, content: bytes) -> bytes:
    """Return a record of an MCAP file."""
    return struct.pack('<BQ', kind, len(content)) + content


def mcap_text(text: str) -> bytes:
    """Return a text in MCAP's encoding."""
    return struct.pack('<I', len(text.encode())) + text.encode()


def mcap_chunk(records: bytes, size: int, compression: str, checksum: int = 0) -> bytes:
    """Return a chunk record with the given size, compression and checksum (0 for none)."""
    return mcap_record(6, struct.pack('<QQQI', 0, 0, size, checksum) + mcap_text(compression)
                       + struct.pack('<Q', len(records)) + records)


def mcap_records(whole: bytes) -> list[tuple[int, bytes]]:
    """Return the records of an MCAP file, each with its kind."""
    found, place = [], 8
    while place < len(whole) - 8:
        kind, length = struct.unpack_from('<BQ', whole, place)
        found.append((kind, whole[place : place + 9 + length]))
        place += 9 + length
    return found


def unindexed(whole: bytes) -> bytes:
    """Return an MCAP file without its summary and its message indexes."""
    kept = [record for kind, record in mcap_records(whole) if kind in (1, 6)]
    end = mcap_record(15, bytes(4)) + mcap_record(2, bytes(20))
    return b''.join([whole[:8], *kept, end, whole[:8]])


def rewrite_chunk(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the single chunk of an MCAP file, and drop the indexes."""
    whole = path.read_bytes()
    records = mcap_records(whole)
    (chunk,) = (record for kind, record in records if kind == 6)
    footer = mcap_record(2, bytes(20))
    # The header of an uncompressed chunk has 49 bytes.
    path.write_bytes(whole[:8] + records[0][1] + change(chunk[49:]) + footer + whole[:8])
