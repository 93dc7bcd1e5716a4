"""Files of a bag on disk and their metadata; nothing outside the bag's folder is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nav_monitor_ros.data.bags.storage import Storage, Topic
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.paths import listed, reachable
from nav_monitor_ros.files.untrusted_yaml import read_yaml

METADATA = 'metadata.yaml'
_MOST_FILES = 10_000
_ENDINGS = ('.mcap', '.db3')  # file endings, without the compression suffix
_COMPRESSED = '.zstd'


@dataclass(frozen=True)
class BagFiles:
    """The files of a bag."""

    found: list[Path]
    problems: list[str] = field(default_factory=list)  # one line per problem
    counts: Mapping[Topic, int] | None = None  # messages per topic, according to the metadata


def files_of(path: Path) -> BagFiles:
    """Return the existing files of a bag, and how they deviate from its metadata.

    Args:
        path: Path of the bag's folder, or of one of its files.

    Raises:
        NavMonitorError: The bag does not exist, or its metadata are malformed or lead out of its
            folder.
    """
    if not reachable(path).exists():
        raise NavMonitorError(f'bag {path} does not exist')
    if path.is_file():
        return BagFiles([path])
    if not path.is_dir():
        raise NavMonitorError(f'bag {path} is neither a folder nor a file')
    metadata = path / METADATA
    if not reachable(metadata).exists():
        return BagFiles(_named_as_of_a_bag(path), [
            f'it has no {METADATA}, as if the recorder was killed or is still running; `ros2 bag '
            f'reindex {path}` writes one'
        ])
    information = _information(path, metadata)
    names = _listed_files(path, metadata, information)
    found, problems = [], []
    for name in names:
        # Up to version 3 of the format, paths start with the bag's own folder.
        file = path / PurePosixPath(name).name
        _require_inside(path, file)
        try:
            there = file.is_file()
        except OSError:  # such as a name that is too long
            there = False
        if there:
            found.append(file)
        else:
            problems.append(f'{METADATA} lists {one_line(name)}, which does not exist')
    if not found and problems:
        raise NavMonitorError(f'bag {path} cannot be read: {problems[0]}')
    problems += _not_listed(path, {PurePosixPath(name).name for name in names})
    return BagFiles(found, problems, _counts(information))


def miscounts(
    files: BagFiles, storages: Iterable[Storage], types: Collection[str]
) -> list[str]:
    """Return one line per topic for which the files hold more or fewer messages than expected.

    Args:
        files: Files of the bag.
        storages: The files that could be opened.
        types: Types of the messages that are read.
    """
    if files.counts is None:
        return []
    held: Counter[Topic] = Counter()
    for storage in storages:
        counts = np.bincount(storage.entries['topic'], minlength=len(storage.topics))
        for topic, count in zip(storage.topics, counts.tolist(), strict=True):
            held[topic] += count
    return [
        f'{METADATA} says {_messages(count)} of {one_line(topic.name)}, and the files hold '
        f'{held[topic]}'
        for topic, count in files.counts.items() if topic.holds(types) and held[topic] != count
    ]


def _messages(count: int) -> str:
    return f'{count} message{"s" * (count != 1)}'


def _not_listed(path: Path, names: Collection[str]) -> list[str]:
    """Return a line on files in a bag's folder that its metadata do not list, if there are any.

    A compressed file may lie next to its unpacked copy.
    """
    known = {name.removesuffix(_COMPRESSED) for name in names}
    others = [
        file.name for file in listed(path)
        if file.name.removesuffix(_COMPRESSED).endswith(_ENDINGS)
        and file.name.removesuffix(_COMPRESSED) not in known
    ]
    if not others:
        return []
    more = f' and {len(others) - 1} more' if len(others) > 1 else ''
    return [
        f'{METADATA} does not list {one_line(others[0])}{more}, which {"are" if more else "is"} '
        f'not read; `ros2 bag reindex {path}` recreates it'
    ]


def _counts(information: Mapping[str, Any]) -> dict[Topic, int] | None:
    """Return the number of messages per topic according to a bag's metadata, None if not stated."""
    counts: dict[Topic, int] = {}
    try:
        for one in information['topics_with_message_count']:
            described, count = one['topic_metadata'], one['message_count']
            topic = Topic(
                described['name'], described['type'], described.get('serialization_format', 'cdr'))
            if isinstance(count, bool) or not isinstance(count, int):
                return None
            counts[topic] = counts.get(topic, 0) + count
    except (KeyError, TypeError, AttributeError):
        return None
    return counts


def _named_as_of_a_bag(path: Path) -> list[Path]:
    """Return the files of a bag without metadata, found by their names."""
    files = sorted(
        file for file in listed(path)
        if file.name.removesuffix(_COMPRESSED).endswith(_ENDINGS) and file.is_file()
    )[:_MOST_FILES]
    if not files:
        raise NavMonitorError(
            f'bag {path} has no {METADATA} and no file of a bag ({", ".join(_ENDINGS)}); is it the '
            'folder that `ros2 bag record` made?'
        )
    for file in files:
        _require_inside(path, file)
    return files


def _information(path: Path, metadata: Path) -> Mapping[str, Any]:
    """Return a bag's metadata."""
    _require_inside(path, metadata)
    described = read_yaml(metadata)
    try:
        information = described['rosbag2_bagfile_information']
        information['relative_file_paths']
        information.get('compression_format')
    except (KeyError, TypeError, AttributeError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else 'it is not a description'
        raise NavMonitorError(
            f'{metadata} does not describe a bag: {reason}; recreate it with `ros2 bag reindex`'
        ) from None
    return information


def _listed_files(path: Path, metadata: Path, information: Mapping[str, Any]) -> list[str]:
    """Return the files that a bag's metadata list."""
    names = information['relative_file_paths']
    compression = information.get('compression_format') or 'zstd'
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not valid or not 0 < len(names) <= _MOST_FILES:
        raise NavMonitorError(
            f'{metadata} does not describe a bag: relative_file_paths is not a list of files; '
            'recreate it with `ros2 bag reindex`'
        )
    if compression != 'zstd':
        raise NavMonitorError(
            f"bag {path} is compressed as '{one_line(compression)}', which is not supported; only "
            "zstd is"
        )
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith('/') or '..' in parts or '\0' in name:
            raise NavMonitorError(
                f"{metadata} names a file outside the bag: '{one_line(name)}'; the bag is not "
                'opened'
            )
    return names


def _require_inside(folder: Path, file: Path) -> None:
    try:
        inside = file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # circular links, invalid names
        inside = False
    if not inside:
        raise NavMonitorError(
            f'{one_line(file)} leads out of the bag {folder}; the bag is not opened'
        )


