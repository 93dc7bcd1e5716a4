"""Options for the monitor that judges recordings: its bundle and the node's parameters."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.options.device_and_threads import add_trust
from nav_monitor_ros.errors import NavMonitorError, printable

_LONGEST_LIST = 1000  # characters of a list of nodes in a message


def add_monitor(parser: argparse.ArgumentParser, *, bundle: bool = True) -> None:
    """Add the options for the monitor and its parameters.

    Args:
        parser: Parser of the command.
        bundle: Whether to add ``--bundle``, too.
    """
    if bundle:
        parser.add_argument('--bundle', metavar='B',
                            help='folder, or name of a shipped bundle (default: that of '
                            '--params, or traffic_signs)')
    parser.add_argument('--params', type=Path, metavar='FILE',
                        help="the node's parameter file: evidence, timeouts, score, region, ...")
    parser.add_argument('--node', metavar='NAME',
                        help='name of the node in that file, such as /robot/nav_monitor (default: '
                        '/nav_monitor, or the only nav_monitor in a namespace)')
    add_trust(parser)
    parser.add_argument('--backend',
                        help='torch, onnxruntime, openvino or auto (default: that of --params, or '
                        'auto)')
    parser.add_argument('--device', help='auto, cpu or cuda:N (default: that of --params, or auto)')
    parser.add_argument('--threads', type=int, metavar='N',
                        help="the network's threads on the CPU; 0: one or all cores, whichever is "
                        'measured to be faster (default: that of --params, or 1)')


def parameters_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the node's parameters, from the parameter file and the command line.

    Raises:
        NavMonitorError: The file cannot be read, or a parameter is invalid.
    """
    from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all

    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    # The node measures which number is fastest; a replay must be reproducible.
    values['torch_threads'] = 1
    values.update({name: value for name, value in _from_file(options).items() if name in BY_NAME})
    given = {
        'bundle': options.bundle, 'backend': options.backend, 'device': options.device,
        'torch_threads': options.threads,
    }
    values.update({name: value for name, value in given.items() if value is not None})
    checked = check_all(values)
    checked['trusted_packages'] += options.trust
    return checked


def warn_of_parameters(options: argparse.Namespace) -> None:
    """Warn on standard error about parameters without effect, as the node does in its log.

    Raises:
        NavMonitorError: The file cannot be read, or a parameter is invalid.
    """
    from nav_monitor_ros.runtime.camera_overrides import known_names
    from nav_monitor_ros.runtime.unknown_parameters import describe_unknown

    given = _from_file(options)
    cameras = [name for name in parameters_of(options)['cameras'] if name]
    names = known_names(cameras)
    lines = describe_unknown(given, **names)
    own = sorted(name for name in given if name in names['known'] and '.' in name)
    if own:
        lines.append(
            f'parameter {own[0]} is not used: a replay judges every topic with the parameters '
            'that all cameras share'
        )
    for line in lines:
        print(printable(f'nav_monitor {options.command}: warning: {line}'), file=sys.stderr)


def settings_of(values: Mapping[str, Any]) -> Any:
    """Return the parameters that affect the verdicts on a recording."""
    from nav_monitor_ros.decision.alert.state_machine import AlertRules
    from nav_monitor_ros.replay.replay import ReplaySettings

    return ReplaySettings(
        AlertRules(**{name: values[name] for name in AlertRules.__dataclass_fields__}),
        tuple(values['roi']), values['max_pixels'], values['blank_contrast'],
    )


def _from_file(options: argparse.Namespace) -> dict[str, Any]:
    """Return the node's parameters in the parameter file, by full name."""
    from nav_monitor_ros.runtime.parameter_file import (
        find_node,
        parameters_for,
        read_parameter_file,
    )

    if options.params is None:
        if options.node is not None:
            raise NavMonitorError('--node names a node in a parameter file; give --params, too')
        return {}
    blocks = read_parameter_file(options.params)
    node = options.node and f'/{options.node.strip("/")}'
    try:
        node = node or find_node(blocks, 'nav_monitor')
    except NavMonitorError as error:
        raise NavMonitorError(f'{options.params}: {error}') from None
    found = parameters_for(blocks, node)
    if found is None:
        there = ', '.join(blocks)[:_LONGEST_LIST] or 'none'
        raise NavMonitorError(
            f'{options.params} has no parameters for {node}, only for: {there}; name the '
            'monitor with --node'
        )
    return found
