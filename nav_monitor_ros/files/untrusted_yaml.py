"""YAML from untrusted files: only plain values of limited size.

Numbers are read as in the parameter files of ROS 2: ``1e-1`` is 0.1, and ``1:30``, ``1_000`` and
``2024-01-01`` are texts. To YAML 1.1 the first is a text, the others are numbers and a date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nav_monitor_ros.errors import NavMonitorError, one_line

LARGEST = 1 << 20  # bytes; the worst of that size keeps PyYAML busy for ten seconds
DEEPEST = 50  # sequences and mappings inside each other

_TAG = 'tag:yaml.org,2002:'
_FLOAT = re.compile(
    r'(?:[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+'
    r'|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))\Z'
)
# What a plain text may stand for, and the letters with which it begins.
_RESOLVED = (
    ('bool', re.compile('(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off'
                        r'|OFF)\Z'), 'yYnNtTfFoO'),
    ('null', re.compile(r'(?:~|null|Null|NULL|)\Z'), ['~', 'n', 'N', '']),
    # 08 is a text: classes are numbered so.
    ('int', re.compile(r'[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z'), '-+0123456789'),
    ('float', _FLOAT, '-+.0123456789'),
)


class PlainLoader(yaml.SafeLoader):
    """Knows no anchors, with which a few lines can stand for more values than memory holds."""

    yaml_implicit_resolvers: dict = {}  # none of YAML 1.1
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse references and nesting that no description needs."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError('it refers to other places (*), which is not allowed')
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f'it is nested more than {DEEPEST} deep')
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _kind, _pattern, _first in _RESOLVED:
    PlainLoader.add_implicit_resolver(f'{_TAG}{_kind}', _pattern, list(_first))


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file as plain Python values.

    Args:
        path: Of UTF-8 text.

    Raises:
        NavMonitorError: It cannot be read, is too large, or is not plain YAML.
    """
    with readable(path) as text:
        return yaml.load(text, PlainLoader)


@contextmanager
def readable(path: Path) -> Iterator[str]:
    """Give the text of a YAML file to a block, and turn what goes wrong in it into one error.

    Args:
        path: Of UTF-8 text.

    Raises:
        NavMonitorError: The file cannot be read, is too large, or is not plain YAML.
    """
    try:
        with path.open('rb') as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise yaml.YAMLError(f'it is larger than {LARGEST} bytes')
        yield content.decode('utf-8-sig')
    except OSError as error:
        raise NavMonitorError(f'{path} cannot be read: {error.strerror}') from None
    # Tags such as !!int and !!timestamp are converted with whatever errors Python has for that.
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, LookupError,
            RecursionError) as error:
        reason = one_line(error)
        raise NavMonitorError(f'{path} is not readable YAML: {reason}') from None


def plain_value(text: str) -> Any:
    """Return what a text on the command line says: a number, a bool, a list, or the text itself."""
    try:
        return yaml.load(text, PlainLoader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, LookupError,
            RecursionError):
        return text


def write_yaml(path: Path, described: Any) -> None:
    """Write plain values, readable by ``read_yaml`` and by people.

    Raises:
        OSError: The file cannot be written.
    """
    text = yaml.dump(
        described, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=100
    )
    path.write_text(text, encoding='utf-8')


class _PlainDumper(yaml.SafeDumper):
    """Dumper that repeats equal values instead of referring to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: no value is written as a reference."""
        return True


# Besides those of YAML 1.1, so that other programs read the same texts.
_PlainDumper.add_implicit_resolver(f'{_TAG}float', _FLOAT, list('-+.0123456789'))
