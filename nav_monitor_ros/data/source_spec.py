"""Specification of an image source: ``LOCATION[?key=value&key=value]``.

A path is taken literally: it may contain spaces, ``%``, ``&``, ``+`` and also ``?``, since the
location is the longest existing path before a ``?``. A value is literal too, except for ``%26``,
``%2C`` and other escapes, which stand for characters that would otherwise end it (``&``, in lists
``,``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from nav_monitor_ros.errors import NavMonitorError

SAMPLE = 'sample:'
_FILES = ('labels',)  # options whose value is a file
# Options that select some of the images, each of which keeps its number.
SELECTIONS = ('limit', 'part', 'seed', 'classes', 'without')
_UNQUOTED = "/:,=+?!'() ~@"  # characters that need no quoting in a value


@dataclass(frozen=True)
class SourceSpec:
    """Parsed specification of a source."""

    location: str
    written: Mapping[str, str]  # options as they were typed

    @staticmethod
    def parse(spec: str) -> SourceSpec:
        """Parse a specification.

        Raises:
            NavMonitorError: An option does not have the form ``key=value``, or is given twice.
        """
        location, query = _split(spec)
        written: dict[str, str] = {}
        for option in query.split('&') if query else ():
            key, equals, value = option.partition('=')
            if not key or not equals:
                raise NavMonitorError(
                    f"source '{spec}': write options as ?key=value&key=value, and a & in a value "
                    'as %26'
                )
            if unquote(key) in written:
                raise NavMonitorError(
                    f"source '{spec}': {unquote(key)} is given twice; give each option once, and "
                    'several values with commas between them'
                )
            written[unquote(key)] = value
        return SourceSpec(location, written)

    @property
    def options(self) -> dict[str, str]:
        """Return the options with their escapes decoded."""
        return {key: _meant(key, value) for key, value in self.written.items()}

    def listed(self, key: str) -> list[str]:
        """Return the values of an option that is a comma-separated list."""
        return [_decoded(part) for part in self.written[key].split(',')]

    def absolute(self) -> str:
        """Return a specification that does not depend on the working directory."""
        location = self.location
        if location and not location.startswith(SAMPLE):
            location = str(home(location).absolute())
        written = {
            key: quote(
                str(home(_meant(key, value)).absolute()), _UNQUOTED,
                errors='surrogateescape',
            ) if key in _FILES else value
            for key, value in self.written.items()
        }
        return _joined(location, written)

    def label(self) -> str:
        """Return the specification without the folders of this machine."""
        location, topic = self.location, ''
        if not location.startswith(SAMPLE):
            path, topic = split_topic(location)
            location = path.name or str(path)
        written = {
            key: value.rpartition('/')[2] if key in _FILES else value
            for key, value in self.written.items()
        }
        return _joined(f'{location}:{topic}' if topic else location, written)


def split_topic(location: str) -> tuple[Path, str]:
    """Return the path of a source and its topic, '' for none; topic names have no colon."""
    whole = home(location)
    path, colon, topic = location.rpartition(':')
    if not colon or exists(whole):
        return whole, ''
    return home(path), topic


def home(path: str) -> Path:
    """Return a path with a leading ``~`` expanded if that user exists."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises if the user does not exist


def exists(path: Path) -> bool:
    """Return whether a file or folder of this name exists, however long the name is."""
    try:
        return path.exists()
    except (OSError, RuntimeError):  # such as a name that is too long, or circular links
        return False


def source_label(spec: str) -> str:
    """Return a source's specification without the folders of this machine."""
    try:
        label = SourceSpec.parse(spec).label()
    except NavMonitorError:  # images that were not opened by a specification may have any name
        label = spec
    return label.encode(errors='backslashreplace').decode()


def absolute(spec: str) -> str:
    """Return a source's specification that does not depend on the working directory."""
    return SourceSpec.parse(spec).absolute()


def _split(spec: str) -> tuple[str, str]:
    if not spec.startswith(SAMPLE):
        ends = [place for place, character in enumerate(spec) if character == '?']
        for end in (len(spec), *reversed(ends)):
            if end and _is_there(spec[:end]):
                return spec[:end], spec[end + 1 :]
    location, _, query = spec.partition('?')
    return location, query


def _is_there(location: str) -> bool:
    path, topic = split_topic(location)
    return '?' not in topic and exists(path)


def _meant(key: str, value: str) -> str:
    # A file name may look like an escape.
    return value if key in _FILES and exists(home(value)) else _decoded(value)


def _decoded(value: str) -> str:
    return unquote(value, errors='surrogateescape')


def _joined(location: str, written: Mapping[str, str]) -> str:
    query = '&'.join(f'{key}={value}' for key, value in written.items())
    return f'{location}?{query}' if query else location
