"""Where the code of a network is found besides the installed packages: in the current folder.

For commands that a person types, and for packages that the person trusts by name; a node takes
installed packages only. Installed packages go first, so that no file of the folder can take the
place of one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_folder: Path | None = None


def look_in(folder: Path | None) -> None:
    """Have network packages that are not installed be found in a folder from now on."""
    global _folder  # noqa: PLW0603 - of the process, as sys.path is
    _folder = folder


def folder_of(package: str) -> Path | None:
    """Return the folder in which a package is found, None where it is installed or not there."""
    if _folder is None or not _lies_in(_folder, package):
        return None
    with suppress(ImportError, ValueError):  # a module without a specification is there
        if package in sys.modules:
            return _folder if _is_from(_folder, package) else None
        if importlib.util.find_spec(package) is not None:
            return None
    return _folder


@contextmanager
def findable(package: str) -> Iterator[None]:
    """Let a package be imported from the folder, if it is there and not installed."""
    folder = folder_of(package)
    if folder is None:
        yield
        return
    sys.path.append(str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


def _lies_in(folder: Path, package: str) -> bool:
    return (folder / f'{package}.py').is_file() or (folder / package).is_dir()


def _is_from(folder: Path, package: str) -> bool:
    file = getattr(sys.modules[package], '__file__', None)
    return file is not None and Path(file).resolve().is_relative_to(folder.resolve())
