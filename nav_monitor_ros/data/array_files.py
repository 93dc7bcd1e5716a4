"""Arrays of images on disk, read row by row instead of being loaded into memory."""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
import weakref
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from nav_monitor_ros.errors import NavMonitorError

_BLOCK = 1 << 20  # bytes copied at once
_NAME_LENGTH = 26  # offset of the name lengths in a zip file's local header


class ArrayFile:
    """Array of images in an open file; any thread may read an image."""

    def __init__(
        self, file: BinaryIO, offset: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        """Wrap an open file.

        Args:
            file: Open file; it may be closed afterwards, since its descriptor is duplicated.
            offset: Offset of the first value, bytes.
            shape: (N, ...), in C order.
            dtype: Data type of the values.
        """
        self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)
        self._offset = offset
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self._size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize

    def __len__(self) -> int:
        """Return N."""
        return self.shape[0]

    def __getitem__(self, place: int) -> np.ndarray:
        """Return one image, (...).

        Raises:
            OSError: The file has been truncated or cannot be read.
        """
        # Not a memory map: its pages would count towards this process's memory once they are
        # touched.
        return self._read(self.shape[1:], self._offset + place * self._size)

    def whole(self) -> np.ndarray:
        """Return the whole array, (N, ...)."""
        return self._read(self.shape, self._offset)

    def _read(self, shape: tuple[int, ...], offset: int) -> np.ndarray:
        array = np.empty(shape, self.dtype)
        room = array.reshape(-1).view(np.uint8).data
        if os.preadv(self._handle, [room], offset) != array.nbytes:
            raise OSError('the file has been truncated')
        return array


def npz_array(path: Path, archive: Any, name: str) -> np.ndarray | ArrayFile:
    """Return one array of an ``.npz`` file, read row by row if possible.

    A compressed array is first unpacked into a temporary file. Either way the whole array is read
    once, since only that reveals damage.

    Args:
        path: Path of the file.
        archive: The same file, opened by ``numpy.load``.
        name: Name of the array.

    Raises:
        Exception: Whatever ``numpy.load`` or ``zipfile`` raises if the file is damaged.
    """
    with ExitStack() as resources:
        whole = resources.enter_context(zipfile.ZipFile(path))
        member = whole.getinfo(f'{name}.npy')
        stream = resources.enter_context(whole.open(member))
        shape, in_columns, dtype = _header(stream)
        if len(shape) < 2 or in_columns or dtype.hasobject:
            array: np.ndarray = archive[name]
            return array
        offset = stream.tell()
        if member.compress_type == zipfile.ZIP_STORED:
            file: Any = resources.enter_context(path.open('rb'))
            offset += _contents(file, member)
            size = _copy(path, stream, None)
        else:
            file, offset = resources.enter_context(tempfile.TemporaryFile()), 0
            size = _copy(path, stream, file)
        if size != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise ValueError(f'{name} is truncated')
        return ArrayFile(file, offset, shape, dtype)


def unpacked(path: Path) -> BinaryIO:
    """Open a file for reading; a ``.gz`` file is unpacked into a temporary file.

    Raises:
        OSError: It cannot be read.
        EOFError: It ends early.
        zlib.error: It is damaged.
    """
    if path.suffix != '.gz':
        return path.open('rb')
    file: Any = tempfile.TemporaryFile()
    try:
        with gzip.open(path) as stream:
            _copy(path, stream, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _contents(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return the offset of a member's contents in a zip file, bytes."""
    file.seek(member.header_offset + _NAME_LENGTH)
    name, extra = struct.unpack('<HH', file.read(4))
    return member.header_offset + _NAME_LENGTH + 4 + name + extra


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return the shape, Fortran order and data type of an array in numpy's format."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise ValueError(f'numpy format {version} is not supported')


def _copy(path: Path, stream: IO[bytes] | gzip.GzipFile, target: BinaryIO | None) -> int:
    """Read the rest of a stream, into a temporary file if one is given; return the number of bytes.

    Raises:
        NavMonitorError: The temporary folder is full.
    """
    size = 0
    while block := stream.read(_BLOCK):
        size += len(block)
        if target is not None:
            _write(path, target, block)
    if target is not None:
        _write(path, target, b'')
    return size


def _write(path: Path, target: BinaryIO, block: bytes) -> None:
    try:
        target.write(block)
        target.flush()
    except OSError as error:
        raise NavMonitorError(
            f'{path} cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}; set TMPDIR '
            'to a folder with more space'
        ) from None
