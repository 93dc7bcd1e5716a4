"""Feed what reads foreign data with what an attacker might send, and look for what must not happen.

    python benchmarks/fuzz.py TARGET [--minutes 10] [--seed 0] [--json FILE] [--keep FOLDER]

TARGET is image, compressed, bundle, bag or parameters. Inputs are valid ones, spoiled: in their
structure, where a target has one, and byte by byte. An input that is answered in a way not seen
before is spoiled further, so that the search goes deeper than chance. Every input has to be used,
or refused with a NavMonitorError of one line; within bounds of time and memory; without running a
command, opening a network connection, unpickling, or opening a file outside the input's folder.
Anything else is a finding: it is printed, kept in FOLDER, and makes the exit status 1.

Memory is watched through the peak (VmHWM) in /proc, so that bound holds only where the kernel
tells it. SQLite and safetensors open files by themselves, unseen; what is opened by Python is
seen.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import os
import pickle
import platform
import random
import re
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import sysconfig
import tempfile
import time
import traceback
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'test'))  # its small network and its writer of bags

from nav_monitor_ros.errors import NavMonitorError  # noqa: E402
from nav_monitor_ros.perception.compressed_images import decode_compressed  # noqa: E402
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError  # noqa: E402
from nav_monitor_ros.perception.image_encodings import ENCODINGS, decode  # noqa: E402

MAX_PIXELS = 1 << 20
LONGEST_MESSAGE = 4000  # characters
MOST_SECONDS = 20.0  # of the processor, for one input
KEPT = 400  # inputs that are spoiled further
LARGEST_CASE = 6 << 20  # bytes, about; larger inputs are not spoiled further
ADDRESS_SPACE = 24 << 30  # bytes beyond what the libraries have mapped
NUMBERS = (0, 1, 2, 3, 7, 63, 64, 127, 128, 255, 256, 4095, 65535, 65536, 1 << 24, (1 << 31) - 1,
           1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


class Finding(Exception):
    """Something that must not happen happened."""


class TooSlowError(BaseException):
    """The input took too long; nothing may catch this on the way."""


class Target(ABC):
    """Code that reads foreign data, with a way to make such data."""

    most_memory: ClassVar[int]  # bytes that one input may cost
    errors: ClassVar[tuple[type[Exception], ...]] = (NavMonitorError,)

    def __init__(self, folder: Path) -> None:
        """Prepare valid inputs.

        Args:
            folder: For files; the only one that may be opened.
        """
        self.folder = folder

    @abstractmethod
    def fresh(self, chance: random.Random) -> Any:
        """Return a valid input."""

    @abstractmethod
    def spoiled(self, case: Any, chance: random.Random) -> Any:
        """Return an input with something wrong with it; ``case`` stays as it is."""

    @abstractmethod
    def feed(self, case: Any) -> object:
        """Use an input and check what comes out; what is returned tells outcomes apart."""


# ------------------------------------------------------------------ the pixels of a message


class ImageTarget(Target):
    """``decode``: the fields of ``sensor_msgs/Image``."""

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
                case[name] = min(max(number, 0), (1 << 32) - 1)  # what the message can hold
        return case

    def feed(self, case: dict[str, Any]) -> object:
        """Decode, convert and crop."""
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
    """``decode_compressed``: the fields of ``sensor_msgs/CompressedImage``."""

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
        """Return a picture as it was encoded."""
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
            return format, _spoil_bytes(data, chance, chance.choice(self._files))
        return format, _spoil_bytes(data, chance, data)

    def feed(self, case: tuple[str, bytes]) -> object:
        """Decode."""
        image = decode_compressed(*case, max_pixels=MAX_PIXELS)
        _check_image(image)
        return image.order, case[1][:4]


def _spoil_jpeg(data: bytes, chance: random.Random) -> bytes:
    """Change the size that a JPEG claims, or repeat a piece from one marker to the next."""
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
    """Change, drop, repeat or add a chunk of a PNG, with the checksum that it has to have.

    Or leave all chunks as they are and have one of them claim another length.
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
        chunks[number] = kind, _spoil_bytes(content, chance, content)
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


def _spoil_bytes(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Flip, insert, drop, repeat or cut off bytes, or go on with those of another input."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randint(0, len(changed))
        length = chance.choice((1, 2, 4, 8, 32, 500))
        way = chance.randrange(7)
        if way <= 1 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif way == 2:
            changed[place : place + length] = chance.randbytes(length)
        elif way == 3:
            width, order = chance.choice((1, 2, 4, 8)), chance.choice(('little', 'big'))
            number = chance.choice(NUMBERS) % (1 << 8 * width)
            changed[place : place + width] = number.to_bytes(width, order)
        elif way == 4:
            del changed[place : place + length]
        elif way == 5:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 20))
        elif chance.random() < 0.3:
            changed[place:] = other[chance.randint(0, len(other)) :]
    if chance.random() < 0.1:
        del changed[chance.randint(0, len(changed)) :]
    return bytes(changed)


# ------------------------------------------------------------------ bundles

BUNDLE_FILES = ('model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md')
EXPORTED = ('exported/network.onnx', 'exported/probe.safetensors')  # the shipped bundle has them


@dataclass(frozen=True)
class BundleCase:
    """A bundle's files by name; a text stands for a link to it."""

    files: dict[str, bytes | str]
    signed: bool = True  # the description's hashes are those of the files


class BundleTarget(Target):
    """``load_bundle``, its network, and its judge on an image."""

    most_memory = 512 << 20

    def __init__(self, folder: Path) -> None:
        """Fit a tiny bundle, and take a shipped one."""
        super().__init__(folder)
        import tiny
        from safetensors.numpy import load, save

        from nav_monitor_ros.bundle.loading import load_bundle
        from nav_monitor_ros.bundle.networks import load_network
        from nav_monitor_ros.bundle.saving import save_bundle

        self._load_tensors, self._save_tensors = load, save
        self._load, self._load_network = load_bundle, load_network
        classifier = tiny.classifier()
        save_bundle(tiny.fitted(classifier), classifier, folder / 'tiny', card='')
        self._bases = [
            {
                path.relative_to(base).as_posix(): path.read_bytes()
                for path in base.rglob('*') if path.is_file()
            }
            for base in (folder / 'tiny', ROOT / 'bundles' / 'digits')
        ]
        self._hashes = [
            {name: _hash(content) for name, content in base.items() if name != 'bundle.yaml'}
            for base in self._bases
        ]
        self._place = folder / 'bundle'
        self._outside = folder.parent / f'{folder.name}-outside'
        self._outside.write_text('schema: 2\n')

    def fresh(self, chance: random.Random) -> BundleCase:
        """Return a bundle as it was fitted; more often the tiny one."""
        return BundleCase(dict(self._bases[chance.random() < 0.15]))

    def spoiled(self, case: BundleCase, chance: random.Random) -> BundleCase:
        """Change the description, the tensors, or the files as such."""
        files = dict(case.files)
        if EXPORTED[0] in files and chance.random() < 0.5:
            self._spoil_exported(files, chance)
            return BundleCase(files, signed=chance.random() < 0.95)
        way = chance.randrange(10)
        description = files.get('bundle.yaml', b'')
        if way <= 4 and isinstance(description, bytes):
            described = _plain(description)
            if isinstance(described, dict):
                for _ in range(chance.choice((1, 1, 2, 4))):
                    _spoil_values(described, chance)
                files['bundle.yaml'] = _yaml(described)
        elif way == 5 and isinstance(description, bytes):
            files['bundle.yaml'] = self._spoil_text(description, chance)
        elif way == 6:
            name = chance.choice(BUNDLE_FILES[:2])
            content = files.get(name, b'')
            if isinstance(content, bytes):
                files[name] = _spoil_safetensors(content, chance)
        elif way == 7:
            name = chance.choice(('bundle.yaml', *BUNDLE_FILES))
            targets = (None, str(self._outside), '/etc/passwd', '/dev/zero', f'../{name}', name)
            target = chance.choice(targets)
            files.pop(name, None)
            if target is not None:
                files[name] = target
        else:
            self._spoil_tensors(files, chance)
        return BundleCase(files, signed=chance.random() < 0.95)

    def _spoil_exported(self, files: dict[str, bytes | str], chance: random.Random) -> None:
        name = chance.choice(EXPORTED)
        content = files.get(name)
        if chance.random() < 0.1:
            files.pop(name, None)
            files[name] = chance.choice((str(self._outside), '/dev/zero', '../bundle.yaml'))
        elif isinstance(content, bytes) and name.endswith('.safetensors'):
            files[name] = _spoil_safetensors(content, chance)
        elif isinstance(content, bytes):
            # The graph stands before and after the weights; a changed weight spoils nothing.
            ends = content[:6000], content[-6000:]
            place = chance.randrange(2)
            spoilt = _spoil_bytes(ends[place], chance, ends[place])
            files[name] = (
                spoilt + content[6000:] if place == 0 else content[:-6000] + spoilt
            )

    def _spoil_text(self, text: bytes, chance: random.Random) -> bytes:
        canary = f'!!python/object/apply:os.system ["touch {self._outside}-ran"]'.encode()
        laughs = b'\n'.join(
            [b'l0: &l0 [1,1]', *(b'l%d: &l%d [%s]' % (n, n, b','.join([b'*l%d' % (n - 1)] * 9))
                                 for n in range(1, 12))])
        merges = b'\n'.join(
            [b'm0: &m0 {a: 1}', *(b'm%d: &m%d {<<: [%s]}' % (
                n, n, b','.join([b'*m%d' % (n - 1)] * 9)) for n in range(1, 12))])
        additions = (
            canary, b'x: ' + canary, laughs, merges, laughs.replace(b'l11:', b'schema:'),
            b'[' * chance.choice((40, 900, 30000)), b'{a: ' * 2000, b'? ' * 5000,
            b'x: !!binary ' + b'A' * 1000, b'x: 0x' + b'f' * 5000, b'x: ' + b'9' * 5000,
            b'x: 2001-99-99', b'x: !!timestamp 2001', b'x: !!float ""', b'&a x: *a', b'\x00',
            b'x: 1:' + b'59:' * 4000 + b'1', b'!!set {a, b}', b'!!omap [a: 1]', b'- ' * 200_000,
        )
        addition = chance.choice(additions)
        if chance.random() < 0.3:
            return addition
        if chance.random() < 0.5:
            return _spoil_bytes(text, chance, text)
        return chance.choice((addition + b'\n' + text, text + b'\n' + addition + b'\n'))

    def _spoil_tensors(self, files: dict[str, bytes | str], chance: random.Random) -> None:
        name = chance.choice(BUNDLE_FILES[1::-1])
        content = files.get(name)
        if not isinstance(content, bytes):
            return
        try:
            tensors = dict(self._load_tensors(content))
        except Exception:  # spoiled before
            return
        for _ in range(chance.choice((1, 1, 2, 4))):
            key = chance.choice(sorted(tensors)) if tensors else 'x'
            array_ = tensors.get(key, np.zeros(3))
            way = chance.randrange(8)
            if way == 0:
                tensors.pop(key, None)
            elif way == 1:
                kinds = (np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, bool)
                with np.errstate(all='ignore'):
                    tensors[key] = array_.astype(chance.choice(kinds))
            elif way == 2:
                tensors[key] = array_.reshape(-1)[: chance.randint(0, 5)]
            elif way == 3:
                tensors[key] = np.concatenate([array_, array_]) if array_.ndim else array_
            elif way == 4:
                tensors[key] = np.zeros((0, *array_.shape[1:]), array_.dtype)
            elif way == 5:
                tensors[key + chance.choice('/x2')] = array_
            elif array_.size:
                changed = array_.copy().reshape(-1)
                values = (0, -1, 1, 255, 1e30, -1e30, 1e-30, np.nan, np.inf, 2**62)
                place = slice(None) if way == 6 else chance.randrange(array_.size)
                with np.errstate(all='ignore'), suppress(OverflowError, ValueError):
                    changed[place] = chance.choice(values)
                tensors[key] = changed.reshape(array_.shape)
        with suppress(Exception):  # what cannot be written is no input
            files[name] = self._save_tensors(
                {key: np.ascontiguousarray(value) for key, value in tensors.items()})

    def feed(self, case: BundleCase) -> object:
        """Write the bundle, load it, run its network and judge."""
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        files = self._signed(case.files) if case.signed else case.files
        for name, content in files.items():
            (self._place / name).parent.mkdir(exist_ok=True)
            if isinstance(content, str):
                (self._place / name).symlink_to(content)
            else:
                (self._place / name).write_bytes(content)
        with watched(self.folder):
            bundle = self._load(self._place)
            backend = 'onnxruntime' if EXPORTED[0] in case.files else None
            classifier = self._load_network(
                bundle, backend=backend, device='cpu', trusted_packages=['tiny'])
            judge = bundle.judge(also=['all'])
            picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
            image = bundle.preprocess.apply(picture)
            verdict = judge.judge(classifier(image[None]))
        if not 0 < verdict.p_value <= 1:
            raise Finding(f'a p-value of {verdict.p_value}')
        return 'judged', sorted(bundle.scores)

    def _signed(self, files: dict[str, bytes | str]) -> dict[str, bytes | str]:
        text = files.get('bundle.yaml')
        for name in (*BUNDLE_FILES, *EXPORTED):
            content = files.get(name)
            if isinstance(content, bytes) and isinstance(text, bytes):
                for hashes in self._hashes:
                    if name in hashes:
                        text = text.replace(hashes[name], _hash(content))
        return files if text is None else {**files, 'bundle.yaml': text}


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


# The harness's own reading and writing, in C where PyYAML has it.
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
_DUMPER = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)


def _yaml(described: Any) -> bytes:
    try:
        return yaml.dump(described, Dumper=_DUMPER, sort_keys=False).encode()
    except ValueError:  # a number that Python does not write, which spoiling has made
        return b'x: ' + b'9' * 9000


def _plain(text: bytes | str) -> Any:
    """Return what a description says, None where it is no YAML worth being changed."""
    if isinstance(text, str) or len(text) > 20_000 or b'*' in text.replace(b'*.', b''):
        return None
    try:
        return yaml.load(text, _LOADER)
    except Exception:
        return None


JUNK: tuple[Any, ...] = (
    None, True, '', 'text', 'a\nb', '\x1b[2J', '../../etc/passwd', '/etc/passwd', 'x' * 5000, -1, 0,
    1, 2, 3, 7, 24, 25, 1000, 10**6, 10**9, 10**12, 10**30, 0.5, -0.0, 1e-320, 1e300, float('nan'),
    float('inf'), [], {}, [[1, 2]], ['a', 'b', 'c'], [0.5] * 3, list(range(2000)), {'a': 1},
    'fused', 'torchvision:resnet18', 'nav_monitor_ros.perception.reference_networks:DigitsNet',
    'nav_monitor_ros.bundle.shipped:os.system',
    'nav_monitor_ros.perception.reference_networks:torch.load',
    'os:system', 'tiny:Bars', 'tiny:torch.hub.load', {'classes': 10**9}, {'width': 10**9},
    {'width': -1}, {'command': 'true'}, {'mc_dropout': {'count': 10**7}},
    {'box': {'clusters': 10**8}}, {'window_kl': {'window': 10**30}},
    {'knn': {'neighbours': 10**30}},
)


def _spoil_values(described: Any, chance: random.Random) -> None:
    """Change one value somewhere in nested lists and dictionaries."""
    places = list(_places(described))
    if not places:
        return
    parent, key = chance.choice(places)
    way = chance.randrange(7)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent[key], (int, float)):
        parent[key] = chance.choice((parent[key] + 1, parent[key] * 1000, -parent[key]))
    elif way == 2:
        other, name = chance.choice(places)
        with suppress(KeyError, IndexError):
            parent[key] = copy.deepcopy(other[name])
    elif way == 3 and isinstance(parent, dict):
        parent[chance.choice(('new', '', 'fused', 5, 'a\nb', 'mc_dropout'))] = chance.choice(JUNK)
    elif way == 4 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[key] = copy.deepcopy(chance.choice(JUNK))


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    entries = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )
    for number, (key, inner) in enumerate(entries):
        if number < 50 and depth < 20:
            yield value, key
            yield from _places(inner, depth + 1)


def _spoil_safetensors(content: bytes, chance: random.Random) -> bytes:
    """Change the header of a safetensors file, which is JSON behind its length, or any bytes."""
    length = int.from_bytes(content[:8], 'little')
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or chance.random() < 0.4:
        return _spoil_bytes(content[: 1 << 16], chance, content) + content[1 << 16 :]
    named = [key for key in header if isinstance(header[key], dict)]
    if named:
        entry = header[chance.choice(named)]
        way = chance.randrange(5)
        if way == 0:
            entry['dtype'] = chance.choice(('F64', 'BF16', 'I64', 'U8', 'BOOL', 'F8_E4M3', 'X', 5))
        elif way == 1:
            entry['shape'] = [chance.choice((0, 1, 3, 1 << 32, 1 << 62)) for _ in range(3)]
        elif way == 2:
            entry['data_offsets'] = [chance.choice((0, 5, 1 << 40)), chance.choice((0, 9, 1 << 62))]
        elif way == 3:
            header['scores/' * 1000] = copy.deepcopy(entry)
        else:
            _spoil_values(header, chance)
    encoded = json.dumps(header).encode()
    claimed = len(encoded) if chance.random() < 0.9 else chance.choice(NUMBERS)
    return struct.pack('<Q', claimed) + encoded + content[8 + length :]


# ------------------------------------------------------------------ bags


@dataclass(frozen=True)
class BagCase:
    """The two files of a bag."""

    name: str
    content: bytes
    metadata: bytes


class BagTarget(Target):
    """``open_bag``, all images of the bag, and their pixels."""

    most_memory = 700 << 20  # a chunk of the largest size, unpacked, and another one beside it

    def __init__(self, folder: Path) -> None:
        """Record bags of every kind."""
        super().__init__(folder)
        import recorded
        from backports import zstd

        from nav_monitor_ros.data.bags.bag import BagDamagedError, open_bag

        self._recorded, self._zstd = recorded, zstd
        self._open, self._damaged = open_bag, BagDamagedError
        self._bases = []
        for storage, compression in (
            ('mcap', ''), ('mcap', 'storage'), ('mcap', 'message'), ('sqlite3', ''),
            ('sqlite3', 'message'), ('mcap', 'file'),
        ):
            made = recorded.write_bag(
                folder / f'{storage}-{compression}', storage, compression=compression, frames=6)
            file = recorded.file_of(made)
            self._bases.append(
                BagCase(file.name, file.read_bytes(), (made / 'metadata.yaml').read_bytes()))
        whole = self._bases[0]
        self._bases.append(
            BagCase(whole.name, recorded.unindexed(whole.content), whole.metadata))
        self._place = folder / 'bag'
        self._bomb = self._make_bomb(300 << 20)
        # What is loaded with the first image is none of an input's doing.
        with open_bag(folder / 'mcap-') as bag:
            for image in bag:
                image.decode()

    def _make_bomb(self, size: int) -> bytes:
        packer = self._zstd.ZstdCompressor()
        parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
        return b''.join([*parts, packer.flush()])

    def fresh(self, chance: random.Random) -> BagCase:
        """Return a bag as it was recorded."""
        return chance.choice(self._bases)

    def spoiled(self, case: BagCase, chance: random.Random) -> BagCase:
        """Change the metadata, records or rows, or any bytes."""
        way = chance.randrange(10)
        if way == 0:
            return BagCase(case.name, case.content, self._spoil_metadata(case.metadata, chance))
        if way <= 5 and case.content.startswith(b'\x89MCAP'):
            return BagCase(case.name, self._spoil_mcap(case.content, chance), case.metadata)
        if way <= 5 and case.content.startswith(b'SQLite'):
            return BagCase(case.name, self._spoil_sqlite3(case.content, chance), case.metadata)
        other = chance.choice(self._bases).content
        return BagCase(case.name, _spoil_bytes(case.content, chance, other), case.metadata)

    def _spoil_metadata(self, text: bytes, chance: random.Random) -> bytes:
        described = _plain(text)
        if not isinstance(described, dict) or chance.random() < 0.3:
            return _spoil_bytes(text, chance, text)
        information = described.get('rosbag2_bagfile_information')
        if isinstance(information, dict) and chance.random() < 0.4:
            name = chance.choice(
                ('../secret', '/etc/passwd', 'a/../../b', '', '.', '..', 'x\0y', 5, 'b' * 5000))
            information['relative_file_paths'] = [name, *(['x'] * chance.choice((0, 1, 20_000)))]
        else:
            _spoil_values(described, chance)
        return _yaml(described)

    def _spoil_mcap(self, content: bytes, chance: random.Random) -> bytes:
        """Change, repeat, move or add a record, at the top or in a chunk that is not packed."""
        records, place = [], 8
        while place + 9 <= len(content) - 8:
            length = int.from_bytes(content[place + 1 : place + 9], 'little')
            records.append(content[place : place + 9 + length])
            place += 9 + length
        if not records:
            return _spoil_bytes(content, chance, content)
        number = chance.randrange(len(records))
        way = chance.randrange(8)
        if way == 0:
            records[number] = _spoil_bytes(records[number], chance, records[number])
        elif way == 1:
            records[number] = (
                records[number][:9] + _spoil_bytes(records[number][9:], chance, records[number]))
        elif way == 2:
            length = chance.choice(NUMBERS)
            records[number] = records[number][:1] + struct.pack('<Q', length) + records[number][9:]
        elif way == 3:
            records[number : number + 1] = [records[number]] * chance.choice((0, 2, 30))
        elif way == 4:
            records.insert(chance.randrange(len(records)), records.pop(number))
        elif way == 5:
            size = chance.choice((300 << 20, 100, 1 << 20, *NUMBERS)) % (1 << 64)
            packed = self._bomb if chance.random() < 0.2 else self._zstd.compress(bytes(1000))
            kind = chance.choice(('zstd', 'zstd', 'lz4', '', 'brotli', 'z' * 100))
            records.insert(number, self._recorded.mcap_chunk(packed, size, kind))
        elif way == 6:
            kind = chance.choice((1, 2, 3, 4, 5, 6, 7, 15, 200))
            records.insert(number, self._recorded.mcap_record(kind, chance.randbytes(
                chance.choice((0, 1, 6, 22, 100)))))
        else:
            inner = bytearray(records[number])
            for _ in range(chance.randint(1, 4)):
                if len(inner) > 60:
                    at = chance.randrange(49, len(inner) - 8)
                    inner[at : at + 8] = struct.pack('<Q', chance.choice(NUMBERS))
            records[number] = bytes(inner)
        return content[:8] + b''.join(records) + content[place:]

    def _spoil_sqlite3(self, content: bytes, chance: random.Random) -> bytes:
        """Run a statement that a recorder would not."""
        scratch = self.folder / 'scratch.db3'
        scratch.write_bytes(content)
        statements = (
            'UPDATE messages SET data = zeroblob(30000000) WHERE id = 1',
            'UPDATE messages SET data = NULL', "UPDATE messages SET data = 'text'",
            'UPDATE messages SET timestamp = 9e99', 'UPDATE messages SET timestamp = -5',
            "UPDATE messages SET timestamp = 'x' WHERE id = 2", 'UPDATE messages SET topic_id = 99',
            'DELETE FROM topics', 'DELETE FROM messages', 'DROP TABLE messages',
            'UPDATE topics SET name = NULL', 'UPDATE topics SET name = randomblob(3000)',
            "UPDATE topics SET type = 'sensor_msgs/msg/Image'",
            "UPDATE topics SET type = 'sensor_msgs/msg/CompressedImage'",
            "UPDATE topics SET serialization_format = 'json'",
            'UPDATE messages SET data = randomblob(500)',
            'UPDATE messages SET data = substr(data, 1, 100)',
            'UPDATE messages SET data = data || data',
            'ALTER TABLE messages RENAME TO m; CREATE VIEW messages AS SELECT * FROM m',
            'ALTER TABLE topics RENAME TO t; CREATE VIEW topics AS SELECT * FROM t',
            'DROP TABLE messages; CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, data)',
            'ALTER TABLE messages ADD COLUMN g GENERATED ALWAYS AS (zeroblob(900000000))',
            'CREATE INDEX i ON messages (data)', 'PRAGMA user_version = 7', 'VACUUM',
            'INSERT INTO topics SELECT id + 1000, name, type, serialization_format, '
            'offered_qos_profiles, type_description_hash FROM topics',
            'INSERT INTO messages (topic_id, timestamp, data) SELECT a.topic_id, b.id, b.data '
            'FROM messages a, messages b LIMIT 1000',
        )
        connection = sqlite3.connect(scratch)
        try:
            connection.executescript(chance.choice(statements))
            connection.commit()
        except sqlite3.Error:  # spoiled before
            pass
        finally:
            connection.close()
        with scratch.open('rb') as stream:
            changed = stream.read(LARGEST_CASE)
        return changed if chance.random() < 0.7 else _spoil_bytes(changed, chance, content)

    def feed(self, case: BagCase) -> object:
        """Write the bag and read all of it."""
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        (self._place / case.name).write_bytes(case.content)
        (self._place / 'metadata.yaml').write_bytes(case.metadata)
        read = refused = 0
        with watched(self.folder, tempfile.gettempdir()), self._open(self._place) as bag:
            damage = ''
            try:
                for number, image in enumerate(bag):
                    if number == 300:
                        break
                    read += 1
                    try:
                        _check_image(image.decode(max_pixels=MAX_PIXELS))
                    except ImageError:
                        refused += 1
            except self._damaged as error:
                damage = outcome_of(error)
            if not damage and bag.damage and read < 300:
                raise Finding('damage was not told')
        return damage, read > 0, refused > 0


# ------------------------------------------------------------------ parameters


class ParametersTarget(Target):
    """``check_all``: what a parameter callback is given."""

    most_memory = 16 << 20

    def __init__(self, folder: Path) -> None:
        """Take the table with its defaults."""
        super().__init__(folder)
        from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS, check_all

        self._table = PARAMETERS
        self._check = check_all

    def fresh(self, chance: random.Random) -> dict[str, Any]:
        """Return the defaults."""
        return {parameter.name: parameter.default for parameter in self._table}

    def spoiled(self, case: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Give some parameters other values; a node has all of them, and no others."""
        case = dict(case)
        for _ in range(chance.choice((1, 1, 2, 5))):
            parameter = chance.choice(self._table)
            case[parameter.name] = self._value(parameter, chance)
        return case

    def _value(self, parameter: Any, chance: random.Random) -> Any:
        whole = [number for number in NUMBERS if number < 1 << 63]
        numbers = [*whole, *(-number for number in whole), -(1 << 63), 0.5, -0.0, 5e-324, 1.8e308,
                   float('nan'), float('inf'), float('-inf')]
        texts = ['', ' ', 'auto', 'cpu', 'cuda', 'cuda:0', 'cuda:', 'cuda:-1', 'cuda:\u0663',
                 'cuda:' + '9' * 5000, 'a\nb', '\x00', '\ud800', '../x', 'x' * 100_000, 'raw',
                 'all', 'fused', *parameter.choices]
        near = [edge + by for edge in (parameter.low, parameter.high) if edge is not None
                for by in (-1, -1e-9, 0, 1e-9, 1)]
        single = [*numbers, *texts, *near, True, False, None, b'bytes', int(chance.random() * 100)]
        if chance.random() < 0.3:
            length = chance.choice((0, 1, 3, 4, 4, 4, 5, 1000))
            items = [chance.choice(chance.choice((single, whole))) for _ in range(length)]
            return chance.choice((list, tuple))(items)
        if chance.random() < 0.1:
            return chance.choice((array('q', [0, 0, 1, 1]), np.zeros(4), {'a': 1}, object()))
        return chance.choice(single)

    def feed(self, case: dict[str, Any]) -> object:
        """Check them; what is accepted has the table's types and is accepted again."""
        checked = self._check(case)
        types = {'bool': bool, 'int': int, 'float': float, 'string': str}
        for parameter in self._table:
            value = checked[parameter.name]
            if not isinstance(value, types.get(parameter.type, list)):
                raise Finding(f'{parameter.name} is {value!r}')
        if self._check(checked) != checked:
            raise Finding('what was accepted is accepted as something else')
        return ()


TARGETS: dict[str, type[Target]] = {
    'image': ImageTarget, 'compressed': CompressedTarget, 'bundle': BundleTarget, 'bag': BagTarget,
    'parameters': ParametersTarget,
}

# ------------------------------------------------------------------ watching


@dataclass
class _Watch:
    """What the audit hook looks at; a hook cannot be removed."""

    folders: tuple[str, ...] = ()
    seen: list[str] = field(default_factory=list)
    installed: bool = False


_WATCH = _Watch()
_FORBIDDEN = {
    'os.system', 'os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn', 'pty.spawn',
    'subprocess.Popen', 'socket.connect', 'socket.bind', 'pickle.find_class', 'ftplib.connect',
    'urllib.Request', 'os.remove', 'os.rename', 'os.chmod', 'shutil.rmtree', 'os.symlink',
}
_OPENING = {'open', 'sqlite3.connect', 'os.listdir', 'os.scandir'}
# Code that is imported late, by Python itself.
_LIBRARIES = tuple(
    {str(Path(path).resolve()) for path in (*sysconfig.get_paths().values(), ROOT, *sys.path)}
    | {'/proc', '/sys', '/dev/shm', '/usr/lib', '/usr/local/lib'}
)


def _audit(event: str, arguments: tuple) -> None:
    if not _WATCH.folders:
        return
    if event in _FORBIDDEN:
        removes = event.startswith(('os.re', 'shutil.'))
        if removes and (_is_inside(arguments[0]) or not os.path.isabs(arguments[0])):
            return  # a temporary folder is removed; what is relative lies in one that is open
        _WATCH.seen.append(f'{event}{arguments!r}'[:300])
    elif event in _OPENING and not isinstance(arguments[0], int) and arguments[0] is not None:
        path = os.fsdecode(arguments[0])
        if event == 'sqlite3.connect':
            path = path.removeprefix('file://').partition('?')[0]
        real = os.path.realpath(path)
        reads = event != 'open' or 'w' not in str(arguments[1] or 'r')
        if not _is_inside(real) and not (reads and real.startswith(_LIBRARIES)):
            _WATCH.seen.append(f'{event}: {real}')


def _is_inside(path: Any) -> bool:
    try:
        return os.path.realpath(os.fsdecode(path)).startswith(_WATCH.folders)
    except (TypeError, ValueError):
        return True  # relative to a folder that is open


@contextmanager
def watched(*folders: str | Path) -> Iterator[None]:
    """Note what is run and opened meanwhile, other than files in ``folders``.

    Raises:
        Finding: Something was.
    """
    if not _WATCH.installed:
        sys.addaudithook(_audit)
        _WATCH.installed = True
    _WATCH.seen.clear()
    _WATCH.folders = tuple(os.path.realpath(folder) for folder in folders)
    try:
        yield
    finally:
        _WATCH.folders = ()
        if _WATCH.seen:
            raise Finding('; '.join(_WATCH.seen[:3]))


def _memory(name: str) -> int:
    """Return a line of /proc/self/status in bytes, 0 where there is none."""
    try:
        text = Path('/proc/self/status').read_text()
    except OSError:
        return 0
    found = re.search(rf'^{name}:\s+(\d+) kB', text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


@contextmanager
def _bounded_memory(most: int) -> Iterator[None]:
    before = _memory('VmRSS')
    with suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
    yield
    grown = _memory('VmHWM') - before
    if grown > most:
        raise Finding(
            f'it took {grown >> 20} MiB, more than {most >> 20} (besides {before >> 20})')


@contextmanager
def _bounded_time(seconds: float) -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> None:
        raise TooSlowError(f'it took more than {seconds:g} s')

    old = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def outcome_of(error: Exception) -> str:
    """Return an error's text without what differs from input to input."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|/\S*|\d+(\.\d+)?(e[+-]?\d+)?|\[.*\]", '#', str(error))
    return f'{type(error).__name__}: {text[:80]}'


# ------------------------------------------------------------------ running


@dataclass
class Report:
    """What came of a run."""

    target: str
    seed: int
    executions: int = 0
    used: int = 0  # inputs that were not refused
    outcomes: int = 0  # different ones
    seconds: float = 0.0
    slowest: float = 0.0  # seconds, one input
    findings: list[str] = field(default_factory=list)


def feed(target: Target, case: Any) -> tuple[object, bool]:
    """Give one input to a target.

    Returns:
        What tells its outcome apart, and whether it was used rather than refused.

    Raises:
        Finding: Something happened that must not.
    """
    try:
        with _bounded_memory(target.most_memory), _bounded_time(MOST_SECONDS):
            return target.feed(case), True
    except target.errors as error:
        text = str(error)
        if '\n' in text or not 0 < len(text) <= LONGEST_MESSAGE:
            raise Finding(f'a message of {len(text)} characters: {text[:200]!r}') from error
        if 'memory enough' in text:
            raise Finding(text) from error
        return outcome_of(error), False
    except Finding:
        raise
    except (Exception, TooSlowError) as error:
        raise Finding(''.join(traceback.format_exception(error)[-12:])) from error


def run(
    name: str,
    *,
    seed: int = 0,
    seconds: float = float('inf'),
    executions: float = float('inf'),
    tell: Callable[[str, Any], None] = lambda what, case: None,
) -> Report:
    """Feed a target until the time is up or enough inputs were fed.

    Args:
        name: One of ``TARGETS``.
        seed: Equal seeds give equal inputs.
        seconds: At most.
        executions: At most.
        tell: Is called with each finding and its input.
    """
    chance, report = random.Random(seed), Report(name, seed)
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
        inputs = Path(folder) / 'inputs'
        inputs.mkdir()
        target = TARGETS[name](inputs)
        kept: list[Any] = []
        outcomes: set[object] = set()
        begin = time.monotonic()
        while report.executions < executions and time.monotonic() - begin < seconds:
            case = chance.choice(kept) if kept and chance.random() < 0.6 else target.fresh(chance)
            if report.executions % 50:
                case = target.spoiled(case, chance)
            report.executions += 1
            before = time.process_time()
            try:
                outcome, used = feed(target, case)
            except Finding as finding:
                report.findings.append(str(finding))
                tell(str(finding), case)
                continue
            finally:
                report.slowest = max(report.slowest, time.process_time() - before)
            report.used += used
            if repr(outcome) not in outcomes and _size(case) <= LARGEST_CASE:
                outcomes.add(repr(outcome))
                kept.append(case)
                del kept[: len(kept) - KEPT]
        report.seconds, report.outcomes = time.monotonic() - begin, len(outcomes)
    return report


def _size(case: Any) -> int:
    """Return the bytes of an input's parts."""
    if isinstance(case, (bytes, bytearray, memoryview, str)):
        return len(case)
    parts = vars(case).values() if hasattr(case, '__dict__') else case
    if isinstance(parts, dict):
        parts = parts.values()
    return sum(map(_size, parts)) if hasattr(parts, '__iter__') else 0


def versions() -> dict[str, str]:
    """Return the versions of what reads the inputs."""
    from importlib.metadata import PackageNotFoundError, version

    found = {'python': platform.python_version(), 'sqlite3': sqlite3.sqlite_version}
    for package in ('numpy', 'opencv-python-headless', 'PyYAML', 'safetensors', 'torch', 'rosbags',
                    'backports-zstd', 'lz4'):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _record(path: Path, report: Report) -> None:
    """Put a run among those that a file tells of."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[report.target] = {
        'minutes': round(report.seconds / 60, 1),
        'executions': report.executions,
        'used': report.used,
        'outcomes': report.outcomes,
        'slowest_s': round(report.slowest, 2),
        'findings': len(report.findings),
        'seed': report.seed,
        'versions': versions(),
    }
    path.write_text(json.dumps(dict(sorted(results.items())), indent=2) + '\n')


def main() -> int:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('target', choices=TARGETS)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='merge the result into this file')
    parser.add_argument('--keep', type=Path, help='write what causes findings into this folder')
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    limit = _memory('VmSize') + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    known: set[str] = set()

    def tell(finding: str, case: Any) -> None:
        what = outcome_of(Exception(finding.strip().splitlines()[-1]))
        print(f'{"again" if what in known else "FINDING"}: {finding[-3000:]}', flush=True)
        if options.keep and what not in known:
            options.keep.mkdir(parents=True, exist_ok=True)
            with io.BytesIO() as stream, suppress(Exception):
                pickle.dump(case, stream)  # written and read by this program's user alone
                name = f'{options.target}-{options.seed}-{len(known)}.pickle'
                (options.keep / name).write_bytes(stream.getvalue())
        known.add(what)

    report = run(options.target, seed=options.seed, seconds=60 * options.minutes, tell=tell)
    print(
        f'{report.target}: {report.executions} inputs in {report.seconds:.0f} s, {report.used} '
        f'used, {report.outcomes} different outcomes, slowest {report.slowest:.1f} s, '
        f'{len(report.findings)} findings'
    )
    if options.json:
        _record(options.json, report)
    return 1 if report.findings else 0


if __name__ == '__main__':
    sys.exit(main())
