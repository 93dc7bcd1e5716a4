"""Temporary folders that are removed afterwards, even if the process is interrupted."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nav_monitor_ros.interrupt import UndoOnInterrupt

_TRIES = 25  # to remove a folder into which another thread may still be writing
_PAUSE = 0.02  # seconds between them

_log = logging.getLogger(__name__)


@contextmanager
def scratch_folder(prefix: str = 'nav_monitor_') -> Iterator[Path]:
    """Yield a temporary folder that is removed afterwards.

    Raises:
        OSError: It cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with UndoOnInterrupt(lambda: remove_folder(folder)):
        try:
            yield folder
        finally:
            remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder with its content; log what cannot be removed."""
    for attempt in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        if attempt == 0:
            _make_writable(folder)
        else:
            time.sleep(_PAUSE)
    _log.warning('%s could not be removed; remove it by hand', folder)


def _make_writable(folder: Path) -> None:
    """Allow the owner of a folder to remove its content, recursively."""
    for place, folders, _ in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in folders)):
            if not os.path.islink(path):
                with suppress(OSError):
                    os.chmod(path, 0o700)
