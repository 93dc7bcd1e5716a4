"""YAML from files that nobody vouches for: plain values only, of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nav_monitor_ros.errors import NavMonitorError, one_line

LARGEST = 1 << 20  # bytes; the worst of that size keeps PyYAML busy for ten seconds
DEEPEST = 50  # sequences and mappings inside each other


class _PlainLoader(yaml.SafeLoader):
    """Knows no anchors, with which a few lines can stand for more values than memory holds."""

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


def read_yaml(path: Path) -> Any:
    """Return what a YAML file describes, in plain Python values.

    Args:
        path: Of UTF-8 text.

    Raises:
        NavMonitorError: It cannot be read, is too large, or is not plain YAML.
    """
    try:
        with path.open('rb') as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise yaml.YAMLError(f'it is larger than {LARGEST} bytes')
        return yaml.load(content.decode(), _PlainLoader)
    except OSError as error:
        raise NavMonitorError(f'{path} cannot be read: {error.strerror}') from None
    # Tags such as !!int and !!timestamp are converted with whatever errors Python has for that.
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, LookupError,
            RecursionError) as error:
        reason = one_line(error)
        raise NavMonitorError(f'{path} is not readable YAML: {reason}') from None


def write_yaml(path: Path, described: Any) -> None:
    """Write plain values so that ``read_yaml`` reads them and a person can.

    Raises:
        OSError: The file cannot be written.
    """
    text = yaml.dump(
        described, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=100
    )
    path.write_text(text, encoding='utf-8')


class _PlainDumper(yaml.SafeDumper):
    """Writes equal values again instead of referring to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return that nothing is referred to."""
        return True
