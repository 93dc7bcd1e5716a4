"""Fuzzing of image messages."""

from __future__ import annotations

import random
import re
import struct
import zlib
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fuzzing.target import NUMBERS, Finding, Target, spoil_bytes
from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.image_encodings import ENCODINGS, decode

MAX_PIXELS = 1 << 20


class ImageTarget(Target):
    """Target: ``decode``, with the fields of ``sensor_msgs/Image``."""

    most_memory = 64 << 20
    errors = (ImageError,)
    strange = ('', 'RGB8', 'rgb8 ', '32FC1', '64FC3', '8UC2', '16UC3', '8SC1', '8UC513', '8UC0',
               'yuv422p', 'nv24', 'bayer_rggb12', '32SC4', '\x00', 'a\nb', '\ud800', 'x' * 5000)

    def fresh(self, chance: random.Random) -> dict[str, Any]:
        """Return the fields of a small image."""
        encoding = chance.choice(ENCODINGS)
        height, width = 2 * chance.randint(1, 16), 2 * chance.randint(1, 16)
        step = width * 8 + chance.choice((0, 0, 1, 16))
        return {
            'encoding': encoding, 'height': height, 'width': width, 'step': step,
            'is_bigendian': chance.random() < 0.3, 'data': chance.randbytes(2 * height * step),
        }

    def spoiled(self, case: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Change some of the fields."""
        case = dict(case)
        for _ in range(chance.randint(1, 3)):
            name = chance.choice(tuple(case))
            if name == 'encoding':
                case[name] = chance.choice(ENCODINGS + self.strange)
            elif name == 'data':
                data = bytes(case[name])[: chance.choice((0, 1, 17, 1000, None))]
                kinds = (bytes, bytearray, memoryview, lambda d: array('B', d),
                         lambda d: np.frombuffer(d, np.uint8))
                case[name] = chance.choice(kinds)(data)
            elif name == 'is_bigendian':
                case[name] = not case[name]
            else:
                near = case[name] + chance.choice((-1, 1))
                number = chance.choice((near, chance.choice(NUMBERS), chance.randint(0, 70)))
                case[name] = min(max(number, 0), (1 << 32) - 1)  # range of the message's field
        return case

    def feed(self, case: dict[str, Any]) -> object:
        """Decode, convert and crop the image."""
        image = decode(**case, max_pixels=MAX_PIXELS)
        _check_image(image)
        if (image.height, image.width) != (case['height'], case['width']):
            raise Finding(f'{image.pixels.shape} for {case["height"]} x {case["width"]}')
        return case['encoding'], image.order


def _check_image(image: DecodedImage) -> None:
    if image.height * image.width > MAX_PIXELS:
        raise Finding(f'{image.pixels.shape} is larger than max_pixels')
    colour, gray = image.rgb(), image.gray()
    shape = image.height, image.width
    if colour.shape != (*shape, 3) or gray.shape != shape or image.pixels.dtype != np.uint8:
        raise Finding(f'{image.pixels.dtype}, {colour.shape}, {gray.shape}')
    if image.crop(0, 0, image.width, image.height).pixels.shape != image.pixels.shape:
        raise Finding('a crop of all of it is another image')


class CompressedTarget(Target):
    """Target: ``decode_compressed``, with the fields of ``sensor_msgs/CompressedImage``."""

    most_memory = 64 << 20
    errors = (ImageError,)
    formats = ('jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'bayer_rggb8; png compressed ', 'JPG',
               'mono16; png compressed', 'bgra8; png compressed bgra8', 'jpeg; compressed bgr',
               '16UC1; compressedDepth png', 'bayer_; jpeg', 'tiff', '', '\x00png', 'jpeg' * 2000)

    def __init__(self, folder: Path) -> None:
        """Encode pictures of every kind."""
        super().__init__(folder)
        rng = np.random.default_rng(0)
        self._files: list[bytes] = []
        for shape in ((8, 8), (17, 23), (40, 64, 3), (9, 5, 4)):
            noise = rng.integers(0, 256, shape).astype(np.uint8)
            for picture in (noise, cv2.blur(noise, (5, 5)), noise.astype(np.uint16) * 257):
                self._encode('.png', picture)
                if picture.dtype == np.uint8 and shape[2:] != (4,):
                    for options in (
                        [], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
                        [cv2.IMWRITE_JPEG_QUALITY, 3], [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
                    ):
                        self._encode('.jpg', picture, options)
                    for suffix in ('.bmp', '.webp', '.tiff', '.jp2', '.ppm'):
                        self._encode(suffix, picture)

    def _encode(self, suffix: str, picture: np.ndarray, options: list[int] | None = None) -> None:
        with suppress(cv2.error):  # this OpenCV may lack the format
            written, encoded = cv2.imencode(suffix, picture, options or [])
            if written:
                self._files.append(encoded.tobytes())

    def fresh(self, chance: random.Random) -> tuple[str, bytes]:
        """Return an unchanged encoded picture."""
        return chance.choice(self.formats[:8]), chance.choice(self._files)

    def spoiled(self, case: tuple[str, bytes], chance: random.Random) -> tuple[str, bytes]:
        """Change bytes, segments, the size in the header, or the format."""
        format, data = case
        way = chance.randrange(8)
        if way == 0:
            return chance.choice(self.formats), data
        if way == 1 and data.startswith(b'\xff\xd8'):
            return format, _spoil_jpeg(data, chance)
        if way == 2 and data.startswith(b'\x89PNG'):
            return format, _spoil_png(data, chance)
        if way == 3:
            return format, spoil_bytes(data, chance, chance.choice(self._files))
        return format, spoil_bytes(data, chance, data)

    def feed(self, case: tuple[str, bytes]) -> object:
        """Decode the image."""
        image = decode_compressed(*case, max_pixels=MAX_PIXELS)
        _check_image(image)
        return image.order, case[1][:4]


def _spoil_jpeg(data: bytes, chance: random.Random) -> bytes:
    """Change the size in a JPEG's header, or repeat a part between two markers."""
    markers = [m.start() for m in re.finditer(rb'\xff[\xc0-\xfe]', data)]
    frames = [m for m in markers if data[m + 1] in (0xC0, 0xC1, 0xC2)]
    if frames and chance.random() < 0.5:
        place = chance.choice(frames) + 5
        size = struct.pack('>HH', *(chance.choice((0, 1, 9, 1024, 65535)) for _ in range(2)))
        return data[:place] + size + data[place + 4 :]
    start, stop = sorted(chance.choices([*markers, len(data)], k=2))
    times = chance.choice((0, 2, 2, 5, 300))
    return data[:start] + data[start:stop] * times + data[stop:]


def _spoil_png(data: bytes, chance: random.Random) -> bytes:
    """Change, drop, repeat or add a chunk of a PNG, with a valid checksum.

    Alternatively, only the length field of one chunk is changed.
    """
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], 'big')
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = chance.randrange(len(chunks)) if chunks else 0
    way = chance.randrange(6)
    if chunks and way == 5:
        place = 8 + sum(12 + len(content) for _, content in chunks[:number])
        length = struct.pack('>I', chance.choice(NUMBERS) % (1 << 32))
        return data[:place] + length + data[place + 4 :]
    if chunks and way == 0:
        kind, content = chunks[number]
        chunks[number] = kind, spoil_bytes(content, chance, content)
    elif chunks and way == 1:
        chunks[number : number + 1] = [chunks[number]] * chance.choice((0, 2, 50))
    elif chunks and way == 2 and len(chunks[0][1]) >= 8:
        size = struct.pack('>II', *(chance.choice(NUMBERS[:17]) for _ in range(2)))
        chunks[0] = chunks[0][0], size + chunks[0][1][8:]
    else:
        kind = chance.choice((b'iCCP', b'zTXt', b'iTXt', b'acTL', b'fcTL', b'eXIf', b'PLTE'))
        bomb = zlib.compress(bytes(chance.choice((10, 1 << 16, 1 << 24))))
        chunks.insert(number, (kind, b'name\0\0' + bomb))
    return data[:8] + b''.join(
        struct.pack('>I', len(content)) + kind + content
        + struct.pack('>I', zlib.crc32(kind + content))
        for kind, content in chunks
    )
