"""Image folders, by the rules of torchvision's ``ImageFolder``.

If a folder has subfolders with images, each subfolder is a class with the images at any depth in
it; otherwise the images in the folder itself are used, without labels. Links to folders are
followed, each folder once. Other files, hidden files and images next to class folders are left out
and counted.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.perception.exif_orientation import APPLY, IGNORE
from nav_monitor_ros.perception.image_files import decode_picture
from nav_monitor_ros.perception.network.class_names import problem_of, shown

IMAGE_SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp'}
TABLE = 'labels.tsv'
# Folders that archivers and file servers create; they are not classes.
_FOREIGN_FOLDERS = {'__MACOSX', '@eaDir', '$RECYCLE.BIN', 'System Volume Information', 'lost+found'}
_NAMED = 2  # examples of files left out
_READ_ALREADY = 'links to folders that have already been read'


def open_folder(folder: Path) -> ImageSource:
    """Open a folder of images, labelled by its table if it has one, else by its subfolders.

    Raises:
        NavMonitorError: It holds no images, a folder cannot be read, a link is broken, a class name
            cannot be used, or the table is malformed.
    """
    table = folder / TABLE
    if table.is_file():
        return _from_table(folder, table)
    left_out = _LeftOut(folder)
    beside, folders = _entries(str(folder), left_out)
    once = _ReadOnce(str(folder))
    classes = {
        os.path.basename(path): [
            file for _, pictures in sorted(_walked(path, left_out, once)) for file in pictures
        ]
        for path in folders if once.admits(path)
    }
    read = {*classes}
    left_out.add(_READ_ALREADY, [path for path in folders if os.path.basename(path) not in read])
    if not any(classes.values()):
        return _source(folder, beside, None, None, left_out)
    for name in classes:
        problem = problem_of(name)
        if problem:
            raise NavMonitorError(f'{folder}: the name of a class folder {problem}; rename it')
    left_out.add('next to the class folders', beside)
    left_out.empty = [name for name, files in classes.items() if not files]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    files = [file for found in classes.values() for file in found]
    return _source(folder, files, labels.astype(np.int64), tuple(classes), left_out)


def read_file(path: str | Path, exif: str = IGNORE) -> np.ndarray:
    """Return an image, uint8 (H, W, 3) RGB.

    Args:
        path: Path of the file.
        exif: ``apply`` rotates it according to its EXIF orientation, ``ignore`` does not.

    Raises:
        NavMonitorError: It cannot be read.
    """
    try:
        with open(path, 'rb') as stream:
            encoded = stream.read()
        return decode_picture(encoded, exif=exif).rgb()
    except OSError as error:
        raise NavMonitorError(f'image {path} is unreadable: {error.strerror}') from None
    except ImageError as error:
        raise NavMonitorError(f'image {path} is unreadable: {error}') from None


@dataclass
class _LeftOut:
    """Files of a folder that are not used, by reason."""

    folder: Path
    files: dict[str, list[str]] = field(default_factory=dict)  # reason -> images
    suffixes: Counter[str] = field(default_factory=Counter)  # suffixes of files that are not images
    empty: list[str] = field(default_factory=list)  # classes without images

    def add(self, reason: str, paths: Sequence[str]) -> None:
        """Record images or folders that are not used."""
        if paths:
            self.files.setdefault(reason, []).extend(paths)

    def notes(self, images: int, classes: int | None) -> tuple[str, ...]:
        """Return notes for the user, one line each."""
        parts = [f'{len(paths)} {reason} ({self._examples(paths)})'
                 for reason, paths in self.files.items()]
        if self.suffixes:
            kinds = ', '.join(f'{n} {suffix}' for suffix, n in sorted(self.suffixes.items()))
            parts.append(f'{self.suffixes.total()} of other types ({kinds})')
        found = f'{images} images' + ('' if classes is None else f' in {classes} class folders')
        lines = []
        if parts:
            lines.append(f'{self.folder}: {found}; files not used: {", ".join(parts)}')
        if self.empty:
            names = ', '.join(self.empty[:5]) + (', ...' if len(self.empty) > 5 else '')
            lines.append(f'{self.folder}: {len(self.empty)} class folders without images: {names}')
        return tuple(lines)

    def _examples(self, paths: Sequence[str]) -> str:
        named = [shown(os.path.relpath(path, self.folder)) for path in paths[:_NAMED]]
        return ', '.join([*named, '...'] if len(paths) > _NAMED else named)


def _entries(folder: str, left_out: _LeftOut) -> tuple[list[str], list[str]]:
    """Return the images and subfolders of a folder, each sorted by name.

    Raises:
        NavMonitorError: It cannot be read, or an image is a broken link.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise NavMonitorError(f'folder {folder} is unreadable: {error.strerror}') from None
    pictures, folders = [], []
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if _is_folder(entry):
            if _is_foreign(entry.name):
                _note_hidden(entry.path, left_out)
            else:
                folders.append(entry.path)
        elif suffix not in IMAGE_SUFFIXES:
            if entry.name != TABLE:
                left_out.suffixes[shown(suffix) or shown(entry.name)] += 1
        elif entry.name.startswith('.'):
            left_out.add('hidden', [entry.path])
        elif _is_file(entry):
            pictures.append(entry.path)
        else:
            left_out.add('neither files nor folders', [entry.path])
    return pictures, folders


def _is_foreign(folder: str) -> bool:
    return folder in _FOREIGN_FOLDERS or folder.startswith('.')


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # circular links
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return entry.is_file()
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError as error:
        raise NavMonitorError(
            f'image {entry.path} is a broken link ({error.strerror}); restore the file '
            'or remove the link'
        ) from None


def _note_hidden(folder: str, left_out: _LeftOut) -> None:
    for root, _, names in os.walk(folder):
        left_out.add('hidden', [
            os.path.join(root, name) for name in sorted(names)
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ])


class _ReadOnce:
    """Decides which folders are read: those of the source and the targets of links, each once.

    Links may be circular and may lead to folders of other classes.
    """

    def __init__(self, folder: str) -> None:
        """Start with no folder read."""
        self._folder = folder
        self._read: set[tuple[int, int]] = set()

    @cached_property
    def _own(self) -> set[tuple[int, int]]:
        """Folders of the source that are reached without a link; unused if it has no links."""
        found = {_identity(self._folder)}
        for root, names, _ in os.walk(self._folder):
            names[:] = [name for name in names if not _is_foreign(name)]
            paths = (os.path.join(root, name) for name in names)
            found.update(_identity(path) for path in paths if not os.path.islink(path))
        return found

    def admits(self, path: str, *, linked: bool = False) -> bool:
        """Return whether a folder is to be read.

        Args:
            path: Path of the folder.
            linked: Whether it is reached through a link.
        """
        identity = _identity(path)
        if not linked and not os.path.islink(path):
            return True
        return identity not in self._own | self._read | _lies_in(path)

    def note(self, path: str) -> None:
        """Record that a folder is read."""
        self._read.add(_identity(path))


def _walked(
    folder: str, left_out: _LeftOut, once: _ReadOnce
) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and all folders below it with their images; links to folders are followed."""
    waiting = [(folder, False)]
    while waiting:
        path, linked = waiting.pop()
        if not once.admits(path, linked=linked):
            left_out.add(_READ_ALREADY, [path])
            continue
        once.note(path)
        pictures, folders = _entries(path, left_out)
        yield path, pictures
        linked = linked or os.path.islink(path)
        waiting += [(inside, linked) for inside in reversed(folders)]


def _lies_in(folder: str) -> set[tuple[int, int]]:
    """Return the parents of a folder, by its path and by resolved links."""
    paths = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    return {_identity(parent) for path in paths for parent in path.parents}


def _identity(folder: str | Path) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise NavMonitorError(f'folder {folder} is unreadable: {error.strerror}') from None
    return status.st_dev, status.st_ino


def _from_table(folder: Path, table: Path) -> ImageSource:
    """Return the images listed in a table of file names and classes."""
    try:
        lines = table.read_text(encoding='utf-8-sig').split('\n')
    except (OSError, UnicodeDecodeError) as error:
        raise NavMonitorError(f'{table} is unreadable: {error}') from None
    files, names = [], []
    seen: dict[str, tuple[int, str]] = {}  # image -> its line and class
    left_out = _LeftOut(folder)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        file, tab, name = line.partition('\t')
        name = name.strip()
        if not tab or not name:
            raise NavMonitorError(f'{table}, line {number}: not a file name, a tab and a class')
        if not os.path.isfile(folder / file):
            if number == 1 and Path(file).suffix.lower() not in IMAGE_SUFFIXES:
                continue  # a heading
            raise NavMonitorError(f'{table}, line {number}: {file} does not exist')
        problem = problem_of(name)
        if problem:
            raise NavMonitorError(f'{table}, line {number}: the class {problem}')
        path = os.path.normpath(folder / file)
        before, other = seen.setdefault(path, (number, name))
        if other != name:
            raise NavMonitorError(
                f"{table}, line {number}: {file} is '{name}', and in line {before} '{other}'"
            )
        if before != number:
            left_out.add(f'listed in {TABLE} before', [path])
            continue
        files.append(str(folder / file))
        names.append(name)
    left_out.add(f'not in {TABLE}', [
        path for _, pictures in sorted(_walked(str(folder), left_out, _ReadOnce(str(folder))))
        for path in pictures
        if os.path.normpath(path) not in seen
    ])
    if all(name.isdecimal() and len(name) < 10 for name in names):
        return _source(folder, files, np.array(names, np.int64), None, left_out)
    classes = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in names], np.int64)
    return _source(folder, files, labels, classes, left_out)


def _source(
    folder: Path,
    files: Sequence[str],
    labels: np.ndarray | None,
    class_names: tuple[str, ...] | None,
    left_out: _LeftOut,
) -> ImageSource:
    notes = left_out.notes(len(files), None if class_names is None else len(class_names))
    if not files:
        why = f'; {notes[0].partition("; ")[2]}' if notes else ''
        raise NavMonitorError(
            f'{folder} holds no images; it needs one subfolder per class, or images '
            f'({", ".join(sorted(IMAGE_SUFFIXES))}){why}'
        )
    return ImageSource(
        str(folder), lambda place: read_file(files[place]), np.arange(len(files)), labels,
        class_names, read_turned=lambda place: read_file(files[place], APPLY), notes=notes,
        file_name=lambda place: files[place],
    )
