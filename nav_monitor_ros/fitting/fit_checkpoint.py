"""The state of an unfinished fit on disk, from which an interrupted fit resumes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.fitting.partial_fit import PartialFit

FILE = 'fit.safetensors'
_FORMAT = '2'


class FitCheckpoint:
    """A folder with the last state of one fit.

    The state is replaced atomically, whenever the process ends. Only the same fit resumes from it:
    same images, labels, network, options and versions.
    """

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        """Set the folder; nothing is read or written yet.

        Args:
            folder: Folder; created when a state is saved.
            seconds: Interval between saved states; 0 saves one after each batch.
        """
        self.folder = folder
        self.resumed_at: int | None = None  # images processed by an earlier run
        self._seconds = seconds
        self._identity: dict[str, str] = {}
        self._last = time.monotonic()

    @property
    def file(self) -> Path:
        """Return the path of the state."""
        return self.folder / FILE

    def identify(self, **parts: object) -> None:
        """Set the identity of the fit: a state of another one is refused.

        Args:
            parts: Parts of the identity by their names for messages; bytes or JSON values.
        """
        self._identity = {
            name: hashlib.sha256(
                part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
            ).hexdigest()
            for name, part in parts.items()
        }

    def load(self, partial: PartialFit) -> dict[str, str] | None:
        """Restore the state of an earlier run.

        Args:
            partial: Empty scores; those that do not apply to the network are removed.

        Returns:
            Reasons for removed scores, by name; None if there is no state to resume from.

        Raises:
            NavMonitorError: The state belongs to another fit or is damaged.
        """
        if not self.file.exists():
            return None
        try:
            with safe_open(self.file, 'numpy') as stored:
                noted = stored.metadata() or {}
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}
        except (SafetensorError, OSError) as error:
            raise self._unusable(f'is unreadable ({one_line(error)})') from None
        if noted.get('sha256') != _checksum(tensors):
            raise self._unusable('is damaged')
        if noted.get('format') != _FORMAT:
            raise self._unusable('was written by another version of nav_monitor')
        identity = json.loads(noted['identity'])
        for name, checksum in self._identity.items():
            if identity.get(name) != checksum:
                raise self._unusable(f'is of another fit: its {name} differ')
        left_out: dict[str, str] = json.loads(noted['left_out'])
        for name in left_out:
            partial.scores.pop(name, None)
        parts = [
            {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            for prefix in ('prepared/', 'seen/')
        ]
        partial.resume(*parts)
        self.resumed_at = partial.images
        return left_out

    def save_when_due(self, partial: PartialFit, left_out: Mapping[str, str]) -> None:
        """Save the state if the last one is old enough."""
        if time.monotonic() - self._last >= self._seconds:
            self.save(partial, left_out)

    def save(self, partial: PartialFit, left_out: Mapping[str, str]) -> None:
        """Save the state, replacing the last one.

        Raises:
            NavMonitorError: It cannot be written.
        """
        tensors = {
            **{f'prepared/{key}': array for key, array in partial.prepared().items()},
            **{f'seen/{key}': array for key, array in partial.seen().items()},
        }
        tensors = {key: np.asarray(array, order='C') for key, array in tensors.items()}
        noted = {
            'format': _FORMAT, 'sha256': _checksum(tensors), 'images': str(partial.images),
            'identity': json.dumps(self._identity), 'left_out': json.dumps(dict(left_out)),
        }
        try:
            with atomic_file(self.file) as scratch:
                save_file(tensors, scratch, noted)
                with scratch.open('rb') as stream:
                    os.fsync(stream.fileno())
        except (OSError, SafetensorError) as error:
            raise NavMonitorError(f'cannot write checkpoint {self.file}: {error}') from error
        self._last = time.monotonic()

    def discard(self) -> None:
        """Remove the state, once its fit is complete."""
        self.file.unlink(missing_ok=True)
        with suppress(OSError):  # the folder holds other files
            self.folder.rmdir()

    def _unusable(self, why: str) -> NavMonitorError:
        return NavMonitorError(
            f'checkpoint {self.file} {why}; remove it, or name another folder (--checkpoint)'
        )


def _checksum(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        array = np.ascontiguousarray(tensors[key])
        digest.update(f'{key} {array.dtype.str} {array.shape}'.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
