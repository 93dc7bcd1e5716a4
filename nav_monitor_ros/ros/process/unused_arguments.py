"""Detection of arguments without effect: parameters, remappings and parameter files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node

from nav_monitor_ros.errors import NavMonitorError, did_you_mean
from nav_monitor_ros.runtime.parameter_definition import Parameter
from nav_monitor_ros.runtime.parameter_file import parameters_for, read_parameter_file

# Remappings of the node's own name, and topics that rcl creates without the node's knowledge.
_NOT_TOPICS = ('__node', '__name', '__ns')
_OF_ROS = ('/rosout', '/clock', '/parameter_events')
_SCHEMES = ('rostopic://', 'rosservice://')
MOST_BLOCKS = 10  # largest number of names of nodes in a line


def describe_unused(node: Node, args: Sequence[str], to_come: Sequence[str] = ()) -> list[str]:
    """Return a line for each remapping that applies to no topic or service of a node.

    Args:
        node: Node with all topics and services that it creates at start.
        args: Command line.
        to_come: Names in the code that the node will use later; a name that ends in a slash stands
            for all names that begin with it.
    """
    used = {
        *(publisher.topic_name for publisher in node.publishers),
        *(subscription.topic_name for subscription in node.subscriptions),
        *map(_service_name, (*node.services, *node.clients)),
    }
    later = [
        name + '/' * given.endswith('/')
        for given in to_come if (name := _expanded(node, given.rstrip('/')))
    ]
    lines = []
    for rule in _values(args, ('-r', '--remap')):
        name, _, target = rule.partition(':=')
        for scheme in _SCHEMES:
            name = name.removeprefix(scheme)
        of_node, _, name = name.rpartition(':')
        if of_node not in ('', node.get_name()) or name in _NOT_TOPICS:
            continue
        name, target = _expanded(node, name), _expanded(node, target)
        if not name or not target:
            continue
        known = target in used or name in (*later, *_OF_ROS) or any(
            name.startswith(prefix) for prefix in later if prefix.endswith('/')
        )
        if not known:
            near = did_you_mean(name, [*used, *(one for one in later if not one.endswith('/'))])
            lines.append(
                f'the remapping {rule} applies to no topic or service of this node and changes '
                f'nothing{near}'
            )
    return lines


def describe_unused_files(node: Node, args: Sequence[str]) -> list[str]:
    """Return a line for each parameter file of a command line that holds nothing for a node.

    Args:
        node: The node; its name and namespace decide which blocks of a file apply.
        args: Command line.
    """
    name, lines = node.get_fully_qualified_name(), []
    for value in _values(args, ('--params-file',)):
        try:
            blocks = read_parameter_file(Path(value))
        except NavMonitorError:
            continue  # ROS has read it, or has said why not
        if parameters_for(blocks, name) is None:
            found = ', '.join(list(blocks)[:MOST_BLOCKS]) or 'nothing'
            lines.append(
                f'the parameter file {value} has no parameters for {name} and changes nothing; it '
                f'is for {found}: rename the block, or use /**'
            )
    return lines


def refuse_outside_ros_args(args: Sequence[str], parameters: Sequence[Parameter]) -> None:
    """Refuse any argument outside ``--ros-args``.

    rcl takes ``NAME:=VALUE`` there for a remapping (the syntax of ROS 2 before Dashing), so that
    ``bundle:=mine`` would change nothing, and another bundle would run.

    Args:
        args: Command line.
        parameters: Parameters of the node.

    Raises:
        NavMonitorError: There is such an argument.
    """
    argument = next(_outside(args[1:]), None)
    if argument is None:
        return
    name, is_rule, _ = argument.partition(':=')
    if not is_rule:
        raise NavMonitorError(
            f"unknown argument '{argument}'; parameters and remappings follow --ros-args: "
            '--ros-args -p NAME:=VALUE -r FROM:=TO'
        )
    is_parameter = name.rpartition('.')[2] in {parameter.name for parameter in parameters}
    raise NavMonitorError(
        f"argument '{argument}' is outside --ros-args; use --ros-args "
        f'{"-p" if is_parameter else "-r"} {shlex.quote(argument)}'
    )


def _service_name(service: Any) -> str:
    return str(service.service_name if hasattr(service, 'service_name') else service.srv_name)


def _expanded(node: Node, name: str) -> str:
    """Return the full name, or an empty string if the name is not valid in ROS."""
    try:
        return str(expand_topic_name(name, node.get_name(), node.get_namespace()))
    except (NameValidationException, ValueError):
        return ''


def _values(args: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    """Yield what follows one of the options among the ROS arguments of a command line."""
    follows = False
    for argument, of_ros in _divided(args):
        if not of_ros:
            continue
        if follows:
            yield argument
        follows = not follows and argument in options


def _outside(args: Sequence[str]) -> Iterator[str]:
    """Yield the arguments that do not belong to ``--ros-args``."""
    return (argument for argument, of_ros in _divided(args) if not of_ros)


def _divided(args: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield each argument, and whether it stands between ``--ros-args`` and ``--`` or the end."""
    of_ros = False
    for argument in args:
        if argument == '--ros-args' and not of_ros:
            of_ros = True
        elif argument == '--' and of_ros:
            of_ros = False
        elif argument != '--ros-args':
            yield argument, of_ros
