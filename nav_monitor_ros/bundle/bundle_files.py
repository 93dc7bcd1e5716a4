"""The files of a bundle: their names, sizes and checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable
from nav_monitor_ros.files.untrusted_yaml import read_yaml
from nav_monitor_ros.perception.network.backends import ENGINES, TORCH, Engine
from nav_monitor_ros.perception.network.model_files import require_model_file, unreadable
from nav_monitor_ros.perception.network.specification import ONNX

DESCRIPTION = 'bundle.yaml'
WEIGHTS = 'model.safetensors'
ONNX_WEIGHTS = 'model.onnx'  # weights of a network given in ONNX form
FITTED = 'monitor.safetensors'
CARD = 'MODEL_CARD.md'
CLASSES = 'classes.txt'  # the class names, one per line, if there are very many
LONGEST_LIST = 1 << 16  # characters, most class names in the description; YAML is slow to parse
GRAPH = 'exported/network.onnx'
PROBE = 'exported/probe.safetensors'
EXPORTED_FILES = (
    GRAPH, PROBE,
    *(f'exported/{engine}.safetensors' for engine in ENGINES if engine != Engine(TORCH)),
)
_KNOWN_FILES = {WEIGHTS, ONNX_WEIGHTS, FITTED, CARD, CLASSES, *EXPORTED_FILES}


def required_files(spec: object) -> tuple[str, ...]:
    """Return the names of the files of every bundle of such a network, its weights first."""
    return (ONNX_WEIGHTS if spec == ONNX else WEIGHTS, FITTED, CARD)


def written_files(
    spec: str, class_names: Sequence[str] = (), *, exported: bool = False
) -> set[str]:
    """Return the files that a bundle of a network may have.

    Args:
        spec: Specification of the network.
        class_names: Class names of the network.
        exported: Whether it is also exported for other backends.
    """
    return {
        DESCRIPTION, *required_files(spec), *((CLASSES,) if has_class_file(class_names) else ()),
        *(EXPORTED_FILES if exported else ()),
    }


def own_files(folder: Path) -> set[str]:
    """Return the description in a folder and the files that it lists; none without one."""
    try:
        described = read_yaml(folder / DESCRIPTION) if (folder / DESCRIPTION).is_file() else None
    except NavMonitorError:
        return set()
    return listed_files(described)


def listed_files(described: object) -> set[str]:
    """Return a description and the files that it lists; none if it is malformed.

    Names that a bundle's files cannot have are left out: they might lead anywhere.
    """
    files = described.get('files') if isinstance(described, dict) else None
    if not isinstance(files, dict):
        return set()
    return {DESCRIPTION, *(name for name in _KNOWN_FILES if name in files)}


def size_of(folder: Path) -> int:
    """Return the total size of a bundle's files, bytes, without other files in its folder."""
    return sum(
        (folder / name).stat().st_size for name in own_files(folder) if (folder / name).is_file()
    )


def has_class_file(class_names: Sequence[str]) -> bool:
    """Return whether class names are stored in a separate file."""
    return sum(map(len, class_names)) > LONGEST_LIST


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_file(folder: Path, name: str, remedy: str) -> Path:
    """Return the path of a bundle's file.

    Args:
        folder: Folder of the bundle.
        name: Name of the file.
        remedy: Advice for the message if it is missing.

    Raises:
        NavMonitorError: It is missing or is not a file.
    """
    path = folder / name
    if not reachable(path).is_file():
        raise NavMonitorError(f'bundle {folder} lacks {name}; {remedy}')
    return path


def require_unchanged_file(folder: Path, name: str, checksum: object, remedy: str) -> Path:
    """Return the path of a bundle's file after verifying its checksum.

    Args:
        folder: Folder of the bundle.
        name: Name of the file.
        checksum: SHA-256 in hexadecimal, from the description.
        remedy: Advice for the message if the file is missing or damaged.

    Raises:
        NavMonitorError: It is missing, unreadable, or was changed.
    """
    path = require_file(folder, name, remedy)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise unreadable(path, 'file', error) from None
    if found == checksum:
        return path
    require_model_file(path, 'file')  # a placeholder, such as a Git LFS pointer, has its own remedy
    raise NavMonitorError(
        f'{path} was changed after it was written (SHA-256 differs from {DESCRIPTION}); {remedy}'
    )
