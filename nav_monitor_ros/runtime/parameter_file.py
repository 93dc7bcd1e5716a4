"""ROS parameter files without ROS: the values that a node would get from ``--params-file``.

The rules are those of rcl's parser and rclpy, which
``test/ros/test_parameter_file_against_rcl.py`` compares with.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable
from nav_monitor_ros.files.untrusted_yaml import PlainLoader, readable

KEY = 'ros__parameters'
Blocks = dict[str, dict[str, Any]]  # name of a node, as it is written -> its parameters

_TEXT = 'tag:yaml.org,2002:str'
_PLAIN = '!plain'
_TRUE = frozenset('Y y yes Yes YES true True TRUE on On ON'.split())
_FALSE = frozenset('N n no No NO false False FALSE off Off OFF'.split())
_INT = re.compile('[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)')
_FLOAT = re.compile(r'[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?')
_NAMED = re.compile(
    r'[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|[-+]?(?i:inf|infinity|nan)'
)
# Name and values of a parameter. In rcl, a value of another type does not replace an earlier one,
# and rclpy uses the first type in ``_KINDS`` that has a value, then lists of these types.
_Entries = list[tuple[str, dict[int, Any]]]
_KINDS = (bool, int, float, str)
_NODE_NAME = re.compile(r'/?(?:(?:[A-Za-z_]\w*|\*{1,2})/)*(?:[A-Za-z_]\w*|\*{1,2})', re.ASCII)


class _ParameterLoader(PlainLoader):
    """YAML loader that leaves the interpretation of plain scalars to this module."""

    yaml_implicit_resolvers = {}


_ParameterLoader.add_implicit_resolver(_PLAIN, re.compile(''), None)


def read_parameter_file(path: Path) -> Blocks:
    """Read the parameters of each node in a parameter file.

    Args:
        path: Path of the file.

    Returns:
        Parameters for each node name, in the order of the file; those in mappings have their full
        names (``front.roi``).

    Raises:
        NavMonitorError: The file cannot be read, or no node could start with it.
    """
    if not reachable(path).is_file():
        raise NavMonitorError(f'parameter file {path} does not exist')
    blocks: dict[str, _Entries] = {}
    with readable(path) as text:
        loader = _ParameterLoader(text)
        try:
            while loader.check_node():
                _read_nodes(path, loader.get_node(), '', blocks)
        finally:
            loader.dispose()
    return {
        node: {name: kinds[min(kinds)] for name, kinds in entries}
        for node, entries in blocks.items()
    }


def parameters_for(blocks: Blocks, node: str) -> dict[str, Any] | None:
    """Return the parameters of a node, by full name.

    Args:
        blocks: Content of a parameter file.
        node: Fully qualified name of the node, such as ``/robot/nav_monitor``.

    Returns:
        Parameters; None if no block applies to this node.
    """
    found: dict[str, Any] = {}
    matching = [name for name in blocks if _matches(name, node)]
    for name in matching:  # a later block takes precedence, however general its name
        found.update(blocks[name])
    return found if matching else None


def find_node(blocks: Blocks, name: str) -> str:
    """Return the fully qualified name of the only node of this name in a parameter file.

    Args:
        blocks: Content of a parameter file.
        name: Name of the node without a namespace.

    Raises:
        NavMonitorError: There are several such nodes.
    """
    written = {_absolute(block) for block in blocks if '*' not in block}
    found = sorted(node for node in written if node.rpartition('/')[2] == name)
    if not found or f'/{name}' in found:
        return f'/{name}'
    if len(found) > 1:
        raise NavMonitorError(
            f'the parameter file has several such nodes: {", ".join(found)}; choose one with --node'
        )
    return found[0]


def _matches(name: str, node: str) -> bool:
    # * stands for one part of a name, ** for any number of them.
    pattern = re.escape(_absolute(name)).replace(r'/\*\*', r'(?:/\w+)*').replace(r'/\*', r'/\w+')
    return re.fullmatch(pattern, node, re.ASCII) is not None


def _absolute(name: str) -> str:
    return name if name.startswith('/') else f'/{name}'


def _read_nodes(path: Path, node: Any, name: str, blocks: dict[str, _Entries]) -> None:
    if not isinstance(node, yaml.MappingNode):
        _refuse(path, node, f'expected names of nodes and {KEY}, found a value')
    for key_node, value in node.value:
        key = _key(path, key_node)
        if key != KEY:
            _read_nodes(path, value, key if not name else f'{name.rstrip("/")}/{key}', blocks)
            continue
        if not name:
            _refuse(path, key_node, f'the name of a node is missing before {KEY}')
        if not _NODE_NAME.fullmatch(name):
            _refuse(path, key_node, f"'{name}' is not a valid name of a node")
        if not isinstance(value, yaml.MappingNode):
            _refuse(path, value, f'{KEY} of {name} must be a mapping of names to values')
        _read_parameters(path, value, '', blocks.setdefault(name, []))


def _read_parameters(
    path: Path, node: yaml.MappingNode, prefix: str, entries: _Entries
) -> None:
    for key_node, value in node.value:
        name = f'{prefix}{_key(path, key_node)}'
        if isinstance(value, yaml.MappingNode):
            _read_parameters(path, value, f'{name}.', entries)
            continue
        kind, read = _read_value(path, name, value)
        # rcl looks for an entry of the same name, but not for names in mappings.
        entry = None if prefix else next((kinds for other, kinds in entries if other == name), None)
        if entry is None:
            entry = {}
            entries.append((name, entry))
        entry[kind] = read


def _read_value(path: Path, name: str, node: Any) -> tuple[int, Any]:
    """Return the rank of a parameter's type and its value."""
    if isinstance(node, yaml.ScalarNode):
        value = _read_scalar(path, name, node)
        return _KINDS.index(type(value)), value
    values = []
    for item in node.value:
        if not isinstance(item, yaml.ScalarNode):
            _refuse(path, item, f'parameter {name} is a list that contains a list or a mapping')
        values.append(_read_scalar(path, name, item))
    kinds = {type(value) for value in values}
    if len(kinds) > 1:
        _refuse(path, node, f'parameter {name} has values of different types; a list has one type')
    # An empty list has no type, and any other value takes precedence over it.
    return len(_KINDS) + (_KINDS.index(kinds.pop()) if kinds else len(_KINDS)), values


def _read_scalar(path: Path, name: str, node: yaml.ScalarNode) -> bool | int | float | str:
    text: str = node.value
    quoted = node.style in ('"', "'") or (node.tag == _TEXT and node.style not in ('|', '>'))
    if quoted:
        return text
    if not text:
        _refuse(path, node, f'parameter {name} has no value')
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        number = _integer(text)
        if -(2**63) <= number < 2**63:
            return number
    if _NAMED.fullmatch(text):
        return float(text.lower().replace('.', ''))
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _integer(text: str) -> int:
    digits = text.lstrip('+-')
    if digits[:2] in ('0x', '0X'):
        number = int(digits, 16)
    elif len(digits) > 64:
        number = 2**64  # out of range; Python may refuse to convert so many digits
    else:
        number = int(digits, 8 if digits[0] == '0' else 10)
    return -number if text[0] == '-' else number


def _key(path: Path, node: Any) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        _refuse(path, node, 'a key is not a name')
    return node.value


def _refuse(path: Path, node: Any, why: str) -> None:
    line = node.start_mark.line + 1
    raise NavMonitorError(f'{path}, line {line}: not a ROS parameter file: {why}')
