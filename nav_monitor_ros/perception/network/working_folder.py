"""Import the code of networks from the current folder, in addition to installed packages.

For commands that a person types, and for packages that the person trusts by name; a node only uses
installed packages. Installed packages take precedence, so that no file of the folder can replace
one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_folder: Path | None = None


def look_in(folder: Path | None) -> None:
    """Set the folder in which network packages that are not installed are found."""
    global _folder  # noqa: PLW0603 - of the process, like sys.path
    _folder = folder


def folder_of(package: str) -> Path | None:
    """Return the folder in which a package is found, None if it is installed or missing."""
    if _folder is None or not _lies_in(_folder, package):
        return None
    with suppress(ImportError, ValueError):  # a module without a specification exists
        if package in sys.modules:
            return _folder if _is_from(_folder, package) else None
        if importlib.util.find_spec(package) is not None:
            return None
    return _folder


@contextmanager
def findable(package: str) -> Iterator[None]:
    """Allow importing a package from the folder, if it exists there and is not installed."""
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
