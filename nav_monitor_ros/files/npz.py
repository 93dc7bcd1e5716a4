"""Archives of arrays (``.npz``) that are closed even if they turn out to be damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def open_npz(path: Path) -> Iterator[Any]:
    """Yield what ``numpy.load`` returns for an archive, without pickled objects.

    Args:
        path: Of the file. ``numpy.load`` leaves it open where it raises, if it opens it itself.

    Raises:
        Exception: What ``numpy.load`` and ``zipfile`` raise where it is damaged.
    """
    with path.open('rb') as stream, np.load(stream, allow_pickle=False) as archive:
        yield archive
