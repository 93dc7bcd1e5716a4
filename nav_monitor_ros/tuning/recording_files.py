"""A recording of class tuning: a folder with one file for each checkpoint, readable by name."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.atomic_file import write_file
from nav_monitor_ros.files.npz import open_npz
from nav_monitor_ros.tuning.statistics import BINS, KEPT, CheckpointTuning, LayerTuning

_FORMAT = 1
INDEX = 'tuning.json'
_THUMBNAILS = 'thumbnails.npz'
THUMBNAIL = 32  # pixels, longer side
_UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)


@dataclass(frozen=True)
class RecordingOf:
    """Description of a recording.

    Recordings can be merged and continued if all fields but ``images`` and ``titles`` agree.
    """

    network: str
    class_names: tuple[str, ...]
    layers: tuple[tuple[str, int, tuple[int, ...]], ...]  # name, channels, recorded channels
    response: str  # response of a channel: max or mean over its positions
    images: str  # the source, for display
    preprocess: str = ''  # preprocessing as JSON; '' if not recorded
    # Titles of the layers, for display; none in recordings of earlier versions.
    titles: tuple[str, ...] = field(default=(), compare=False)

    @property
    def shown_layers(self) -> tuple[str, ...]:
        """Return the title of each layer, or its name if no titles were recorded."""
        return self.titles or tuple(name for name, _, _ in self.layers)


class TuningRecording:
    """A folder with the class tuning of a list of checkpoints."""

    def __init__(
        self,
        folder: Path,
        about: RecordingOf,
        checkpoints: list[str],
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.about = about
        self.checkpoints = checkpoints  # names, in order
        self.fingerprints = dict(fingerprints or {})  # checkpoint -> checksum of its weights

    @classmethod
    def create(
        cls, folder: Path, about: RecordingOf, *, replace: bool = False
    ) -> TuningRecording:
        """Return a recording to add checkpoints to: a new one, or an interrupted one.

        Args:
            folder: Folder of the recording.
            about: Description of the recording.
            replace: Start over if the folder holds a recording.

        Raises:
            NavMonitorError: The folder holds another recording, or cannot be written.
        """
        if (folder / INDEX).exists():
            found = cls.open(folder)
            if replace:
                found.about = about
                found._clear()
                return found
            if found.about != about:
                other = next(
                    one.name for one in fields(about)
                    if one.compare and getattr(about, one.name) != getattr(found.about, one.name)
                )
                raise NavMonitorError(
                    f'{folder} holds a recording with another {other.replace("_", " ")}; name '
                    'another folder'
                )
            found.about = about  # earlier versions recorded no titles
            return found
        require_unused(folder)
        recording = cls(folder, about, [])
        recording._write_index()
        return recording

    @classmethod
    def open(cls, folder: Path) -> TuningRecording:
        """Open a recording.

        Raises:
            NavMonitorError: It does not exist or cannot be read.
        """
        try:
            found = json.loads((folder / INDEX).read_text(encoding='utf-8'))
            if found['format'] != _FORMAT:
                raise NavMonitorError(
                    f'{folder} is a recording of format {found["format"]}, not {_FORMAT}; record '
                    'it again'
                )
            about = RecordingOf(
                network=str(found['network']),
                class_names=tuple(map(str, found['class_names'])),
                layers=tuple(
                    (str(name), int(channels), tuple(map(int, components)))
                    for name, channels, components in found['layers']
                ),
                response=str(found['response']),
                images=str(found['images']),
                preprocess=str(found.get('preprocess', '')),
                titles=tuple(map(str, found.get('titles', ()))),
            )
            if len(about.shown_layers) != len(about.layers):
                raise ValueError('the numbers of layers and titles differ')
            return cls(
                folder, about, list(map(str, found['checkpoints'])),
                {str(k): str(v) for k, v in dict(found.get('fingerprints', {})).items()},
            )
        except FileNotFoundError:
            raise NavMonitorError(
                f'{folder} holds no recording of class tuning: it has no {INDEX}'
            ) from None
        except _UNREADABLE as error:
            raise NavMonitorError(f'{folder / INDEX} is unreadable: {_reason(error)}') from None

    def has(self, checkpoint: str, fingerprint: str) -> bool:
        """Return whether a checkpoint is recorded.

        Args:
            checkpoint: Name of the checkpoint.
            fingerprint: Fingerprint of its weights.

        Raises:
            NavMonitorError: A checkpoint of this name was recorded with other weights.
        """
        if checkpoint not in self.checkpoints:
            return False
        if self.fingerprints.get(checkpoint, fingerprint) != fingerprint:
            raise NavMonitorError(
                f"{self.folder} has a checkpoint '{checkpoint}' of other weights; choose another "
                "folder, or rename the file"
            )
        return True

    def add(
        self,
        checkpoint: CheckpointTuning,
        thumbnails: Mapping[int, np.ndarray],
        fingerprint: str = '',
    ) -> None:
        """Write a checkpoint atomically.

        Args:
            checkpoint: Statistics over all images.
            thumbnails: Number of an image -> uint8 (h, w, 3) RGB, ``THUMBNAIL`` pixels at most.
            fingerprint: Fingerprint of its weights; '' if unknown.

        Raises:
            NavMonitorError: A file cannot be written, or the checkpoint already exists.
        """
        if checkpoint.name in self.checkpoints:
            raise NavMonitorError(f"{self.folder} already has a checkpoint '{checkpoint.name}'")
        arrays: dict[str, np.ndarray] = {'images': checkpoint.images, 'labels': checkpoint.labels}
        for place, layer in enumerate(checkpoint.layers):
            for one in fields(LayerTuning):
                if one.name != 'name':
                    arrays[f'{place}.{one.name}'] = getattr(layer, one.name)
        self._write_thumbnails(self.thumbnails() | dict(thumbnails))
        self._write_arrays(self._file(len(self.checkpoints)), arrays)
        self.checkpoints.append(checkpoint.name)
        if fingerprint:
            self.fingerprints[checkpoint.name] = fingerprint
        self._write_index()

    def checkpoint(self, place: int) -> CheckpointTuning:
        """Read a checkpoint.

        Args:
            place: Index into ``checkpoints``.

        Raises:
            NavMonitorError: The file cannot be read, or does not belong to the recording.
        """
        path = self._file(place)
        try:
            with open_npz(path) as found:
                layers = tuple(
                    LayerTuning(name=name, **{
                        one.name: found[f'{number}.{one.name}']
                        for one in fields(LayerTuning) if one.name != 'name'
                    })
                    for number, (name, _, _) in enumerate(self.about.layers)
                )
                read = CheckpointTuning(
                    self.checkpoints[place], layers, found['images'], found['labels']
                )
        except _UNREADABLE as error:
            raise NavMonitorError(f'{path} is unreadable: {_reason(error)}') from None
        classes = len(self.about.class_names)
        for layer, (_, _, components) in zip(read.layers, self.about.layers, strict=True):
            if (
                layer.counts.shape != (2, classes, len(components), BINS)
                or layer.top_images.shape != (len(components), KEPT)
                or read.labels.shape != (2, len(read.images))
            ):
                raise NavMonitorError(f'{path} does not belong to the recording in {self.folder}')
        return read

    def thumbnails(self) -> dict[int, np.ndarray]:
        """Return thumbnails of the top images: number -> uint8 (h, w, 3) RGB.

        Raises:
            NavMonitorError: The file cannot be read.
        """
        path = self.folder / _THUMBNAILS
        if not path.exists():
            return {}
        try:
            with open_npz(path) as found:
                shapes, pixels = found['shapes'], found['pixels']
                ends = np.cumsum(shapes.prod(axis=1) * 3)
                return {
                    int(number): part.reshape(*shape, 3)
                    for number, shape, part in zip(
                        found['images'], shapes, np.split(pixels, ends[:-1]), strict=True
                    )
                }
        except _UNREADABLE as error:
            raise NavMonitorError(f'{path} is unreadable: {_reason(error)}') from None

    def _clear(self) -> None:
        """Remove all checkpoints; other files in the folder are kept."""
        files = [self._file(place) for place in range(len(self.checkpoints))]
        self.checkpoints, self.fingerprints = [], {}
        self._write_index()  # first, so that unlisted files are overwritten if removal fails
        for path in (*files, self.folder / _THUMBNAILS):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise NavMonitorError(f'cannot remove {path}: {error.strerror}') from None

    def _file(self, place: int) -> Path:
        return self.folder / f'{place:04d}.npz'

    def _write_index(self) -> None:
        content: dict[str, Any] = {'format': _FORMAT}
        content |= {one.name: getattr(self.about, one.name) for one in fields(self.about)}
        content['checkpoints'] = self.checkpoints
        content['fingerprints'] = self.fingerprints
        write_file(
            self.folder / INDEX, json.dumps(content, indent=1, ensure_ascii=True).encode()
        )

    def _write_thumbnails(self, thumbnails: Mapping[int, np.ndarray]) -> None:
        if not thumbnails:
            return
        pictures = list(thumbnails.values())
        self._write_arrays(self.folder / _THUMBNAILS, {
            'images': np.array(list(thumbnails), np.int64),
            'shapes': np.array([picture.shape[:2] for picture in pictures], np.int64),
            'pixels': np.concatenate([picture.reshape(-1) for picture in pictures]),
        })

    @staticmethod
    def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        content = io.BytesIO()
        np.savez_compressed(content, **dict(arrays))  # type: ignore[arg-type]  # numpy's own keyword
        write_file(path, content.getvalue())


def require_unused(folder: Path) -> None:
    """Check that a new recording may be written to a folder.

    Raises:
        NavMonitorError: It holds other files.
    """
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise NavMonitorError(f'{folder} is not a folder; name another one')
    if folder.is_dir() and any(folder.iterdir()):
        raise NavMonitorError(f'{folder} is not empty and holds no recording; name another folder')


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return a thumbnail of an image.

    Args:
        image: uint8 (H, W, 3) RGB or (H, W).

    Returns:
        uint8 (h, w, 3) RGB, ``THUMBNAIL`` pixels at most.
    """
    colored = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    factor = THUMBNAIL / max(colored.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(colored)
    height, width = (max(1, round(size * factor)) for size in colored.shape[:2])
    return cv2.resize(colored, (width, height), interpolation=cv2.INTER_AREA)


def _reason(error: BaseException) -> str:
    return one_line(error)
