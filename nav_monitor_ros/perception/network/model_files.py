"""Checks of weight and graph files: files stored by mistake, and damaged ones."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.paths import reachable

ZIP = b'PK\x03\x04'  # signature of an archive written by torch.save

_HEAD = 1024  # bytes to examine
_LFS = b'version https://git-lfs.github.com/spec/'
_PAGES = (b'<!doctype', b'<html', b'<?xml', b'<head', b'<body')


def require_model_file(path: Path, what: str) -> None:
    """Check that a file can be read and is not a placeholder.

    Args:
        path: Path of the file.
        what: Expected contents, for the message: ``weights`` or ``network``.

    Raises:
        NavMonitorError: It is missing, a folder, unreadable, empty, a Git LFS pointer or a web
            page.
    """
    if not reachable(path).is_file():
        be = 'do' if what.endswith('s') else 'does'
        raise NavMonitorError(f'{what} {path} {be} not exist')
    try:
        with path.open('rb') as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise unreadable(path, what, error) from None
    if not head:
        raise NavMonitorError(f'{what} {path}: the file is empty; copy or download it again')
    if head.startswith(_LFS):
        raise NavMonitorError(
            f'{what} {path}: this is a Git LFS pointer, not the file itself; run git lfs pull'
        )
    if head.lstrip(b'\xef\xbb\xbf \t\r\n').lower().startswith(_PAGES):
        raise NavMonitorError(
            f'{what} {path}: this is a web page, not the file itself; download the file, not the '
            'page about it'
        )


def unreadable(path: Path, what: str, error: OSError) -> NavMonitorError:
    """Return the error for a file that the system cannot read."""
    remedy = '; check its permissions' if isinstance(error, PermissionError) else ''
    return NavMonitorError(
        f'{what} {path} cannot be read: {error.strerror or one_line(error)}{remedy}'
    )


def require_whole_archive(path: Path, what: str) -> None:
    """Check the checksums of a zip archive.

    Args:
        path: Path of a file that begins like an archive.
        what: Expected contents, for the message.

    Raises:
        NavMonitorError: The archive is truncated, or part of it was changed.
    """
    again = 'copy or download it again'
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.serialization.set_crc32_options(False) writes 0 for all checksums.
            if not any(part.CRC for part in archive.infolist()):
                return
            damaged = archive.testzip()
    except OSError as error:
        raise unreadable(path, what, error) from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error,
        ValueError,
    ) as error:
        raise NavMonitorError(
            f'{what} {path}: the file is truncated or damaged ({one_line(error, 80)}); {again}'
        ) from None
    if damaged is not None:
        raise NavMonitorError(
            f'{what} {path}: the file is damaged: {one_line(damaged, 80)} has a wrong checksum; '
            f'{again}'
        )
