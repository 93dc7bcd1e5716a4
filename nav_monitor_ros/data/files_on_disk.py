"""Sources of images on disk: folders, arrays, idx files and bags."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nav_monitor_ros.data.array_files import ArrayFile, npz_array, unpacked
from nav_monitor_ros.data.image_folders import open_folder
from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.data.intervals import GROUP_SECONDS, group_by_time, label_by_intervals
from nav_monitor_ros.data.source_spec import home, split_topic
from nav_monitor_ros.errors import NavMonitorError, did_you_mean, one_line
from nav_monitor_ros.files.npz import open_npz
from nav_monitor_ros.files.paths import listed, reachable

_BAG_SUFFIXES = {'.mcap', '.db3', '.zstd'}
_IDX_TYPES = {8: np.dtype('u1'), 9: np.dtype('i1')}
# Exceptions of numpy, zipfile and zlib if a file is damaged, encrypted or of another format.
_UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)
# Options of every source (``sources.py``) and additional options of bags, for messages.
_COMMON_OPTIONS = ('limit', 'part', 'seed', 'classes', 'without', 'transform', 'exif')
_BAG_OPTIONS = ('labels', 'group')


def open_files(spec: str, location: str, options: Mapping[str, str]) -> ImageSource:
    """Open a source on disk.

    Args:
        spec: The whole specification, for messages.
        location: A folder, an ``.npz`` file, or a bag with its topic, ``PATH:TOPIC``.
        options: Options that are not common to all sources.

    Raises:
        NavMonitorError: The location does not exist or holds no images, an option is unknown, or a
            file is malformed.
    """
    path, topic = split_topic(location)
    if not location or not reachable(path).exists():
        what = path if location else 'an empty path'
        raise NavMonitorError(f"source '{spec}': {what} does not exist")
    if topic or _is_bag(path):
        return _open_bag(spec, path, topic, dict(options))
    if path.suffix == '.npz':
        return _open_npz(path, dict(options))
    if not path.is_dir():
        raise NavMonitorError(
            f"source '{spec}': {path} is neither a folder nor an .npz file or bag (.mcap, .db3)"
        )
    if any(path.glob('*-idx3-ubyte*')):
        return open_idx(path, dict(options))
    for name in options:
        raise NavMonitorError(
            f"source '{spec}': folders have no option '{name}'{did_you_mean(name, _COMMON_OPTIONS)}"
        )
    return open_folder(path)


def _open_bag(spec: str, path: Path, topic: str, options: dict[str, str]) -> ImageSource:
    # Imported here since only bags need its dependencies.
    from nav_monitor_ros.data.bags.bag_source import open_bag_source

    labels, group = options.pop('labels', None), options.pop('group', str(GROUP_SECONDS))
    for name in options:
        raise NavMonitorError(
            f"source '{spec}': bags have no option '{name}'; they have labels=FILE and "
            f'group=SECONDS{did_you_mean(name, (*_COMMON_OPTIONS, *_BAG_OPTIONS))}'
        )
    try:
        seconds = float(group)
    except ValueError:
        seconds = -1.0
    if not (seconds == 0 or 1e-9 <= seconds < 1e9):  # of nanoseconds
        raise NavMonitorError(
            f"source '{spec}': group is '{group}', not the number of seconds within which images "
            "of a bag belong together; 0 for no groups"
        )
    if labels is not None and not labels:
        raise NavMonitorError(f"source '{spec}': labels= names no file")
    source = open_bag_source(spec, path, topic)
    if labels:
        source = label_by_intervals(source, home(labels))
    return group_by_time(source, seconds)


def _is_bag(path: Path) -> bool:
    """Return whether a path looks like a bag whose topic is missing."""
    if reachable(path / 'metadata.yaml').is_file():
        return any(child.suffix in _BAG_SUFFIXES for child in listed(path))
    return path.suffix in _BAG_SUFFIXES


def _open_npz(path: Path, options: dict[str, str]) -> ImageSource:
    suffix = f'_{options.pop("split")}' if 'split' in options else ''
    images = f'x{suffix}'
    grouped = options.pop('group').split(',') if 'group' in options else []
    try:
        with open_npz(path) as archive:
            there = archive.files
            # The images stay on disk; all other arrays have one number or word per image.
            wanted = {f'y{suffix}', *grouped, *options} - {images}
            arrays = {name: archive[name] for name in there if name in wanted}
            if images in there:
                arrays[images] = npz_array(path, archive, images)
    except _UNREADABLE as error:
        reason = one_line(error)
        raise NavMonitorError(f'{path} is not a readable .npz of arrays: {reason}') from None
    for name in (images, *grouped, *options):
        if name not in there:
            raise NavMonitorError(f"{path} has no array '{name}'; it has {', '.join(there)}")
    groups = _groups(path, arrays, grouped) if grouped else None
    labels = arrays.get(f'y{suffix}')
    source = from_arrays(str(path), arrays[images], labels, groups=groups)
    kept = np.ones(len(source), bool)
    for name, value in options.items():
        column = arrays[name]
        if column.shape != (len(source),):
            raise NavMonitorError(f'{path}: {name} does not have one value for each image')
        kept &= _equals(path, name, column, value)
    return source.subset(np.flatnonzero(kept))


def _groups(path: Path, arrays: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """Number the groups of images that agree in all of the named arrays, int64 (N,)."""
    columns = [arrays[name] for name in names]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        raise NavMonitorError(
            f'{path}: {",".join(names)} do not have one value each for every image'
        )
    numbered = [np.unique(column, return_inverse=True)[1] for column in columns]
    return np.unique(np.stack(numbered, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _equals(path: Path, name: str, column: np.ndarray, value: str) -> np.ndarray:
    if column.dtype.kind == 'S':  # bytes, UTF-8 or not
        return column == value.encode(errors='surrogateescape')
    if column.dtype.kind not in 'biuf':
        return column.astype(str) == value
    try:
        return column.astype(float) == float(value)
    except ValueError:
        raise NavMonitorError(f"{path}: {name} holds numbers; '{value}' is not a number") from None


def open_idx(folder: Path, options: dict[str, str]) -> ImageSource:
    """Open a folder with MNIST's idx files; the option ``split`` selects them.

    Raises:
        NavMonitorError: An option is unknown, or a file is missing or malformed.
    """
    part = options.pop('split', 'train')
    prefix = {'train': 'train', 'test': 't10k'}.get(part)
    if options or prefix is None:
        raise NavMonitorError(f'{folder}: idx files have only the option split=train or split=test')
    images = _read_idx(_one_file(folder, f'{prefix}-images-idx3-ubyte*'), 3)
    labels = _read_idx(_one_file(folder, f'{prefix}-labels-idx1-ubyte*'), 1)
    return from_arrays(str(folder), images, labels.whole())


def _one_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise NavMonitorError(f'{folder} has no {pattern}')
    return found[0]


def _read_idx(path: Path, dimensions: int) -> ArrayFile:
    header = 4 + 4 * dimensions
    try:
        with unpacked(path) as file:
            content, size = file.read(header), file.seek(0, os.SEEK_END)
            if len(content) < header or content[:2] != b'\0\0' or content[3] != dimensions:
                raise NavMonitorError(f'{path} is not an idx file of {dimensions} dimensions')
            shape = tuple(int(n) for n in np.frombuffer(content, '>u4', dimensions, 4))
            dtype = _IDX_TYPES.get(content[2])
            if dtype is None or size != header + math.prod(shape):
                raise NavMonitorError(f'{path} is truncated or not of bytes')
            return ArrayFile(file, header, shape, dtype)
    except (OSError, EOFError, zlib.error) as error:
        raise NavMonitorError(f'{path} is unreadable: {error}') from None
