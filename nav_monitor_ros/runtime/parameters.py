"""The monitor's parameters: one table that declares, validates and documents them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nav_monitor_ros.decision.e_values import STRANGE
from nav_monitor_ros.decision.evidence import SCHEMES
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.camera_names import check_camera_names

if TYPE_CHECKING:
    from rclpy.node import Node


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter."""

    name: str
    type: str  # bool, int, float, string, int[] or string[]
    default: Any
    description: str
    low: float | None = None  # smallest value allowed
    high: float | None = None  # largest value allowed
    choices: tuple[str, ...] = ()
    read_only: bool = False  # can be set at start only
    at_configure: bool = False  # read when the node is configured, and refused while it is
    unit: str = ''
    per_camera: bool = False  # with several cameras, each may have a value of its own

    @property
    def text(self) -> str:
        """Return the description, and when the parameter is read where that is not at once."""
        read = ' Read when the node is configured.' if self.at_configure else ''
        return f'{self.description}{read}'

    @property
    def range(self) -> str:
        """Return the allowed values as a person writes them."""
        if self.choices:
            return ', '.join(f'`{choice}`' for choice in self.choices)
        if self.low is None and self.high is None:
            return ''
        if self.high is None:
            return f'>= {self.low:g}'
        return f'{self.low:g} to {self.high:g}'

    def check(self, value: Any) -> Any:
        """Return ``value`` in this parameter's type; an empty list is the default of a list.

        Raises:
            NavMonitorError: It has another type or is out of range.
        """
        converted = self._convert(value)
        if self.choices and converted not in self.choices:
            raise NavMonitorError(
                f'parameter {self.name} is {_shown(converted)}; it must be one of '
                f'{", ".join(self.choices)}'
            )
        numbers = converted if isinstance(converted, list) else [converted]
        for number in numbers:
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                self._check_range(number)
        return converted

    def _check_range(self, number: float) -> None:
        # Written so that NaN, which compares false with everything, is refused too.
        above = self.low is None or number >= self.low
        below = self.high is None or number <= self.high
        if not (above and below and abs(number) < float('inf')):
            raise NavMonitorError(f'parameter {self.name} is {number}; it must be {self.range}')

    def _convert(self, value: Any) -> Any:
        kind = self.type
        if kind.endswith('[]') and isinstance(value, Sequence) and not isinstance(value, str):
            values = list(value) or list(self.default)
            wanted = str if kind == 'string[]' else int
            if all(isinstance(v, wanted) and not isinstance(v, bool) for v in values):
                return values
        if kind == 'bool' and isinstance(value, bool):
            return value
        if kind == 'string' and isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if kind == 'float':
                return float(value)  # a whole number in YAML is welcome too
            if kind == 'int' and isinstance(value, int):
                return value
        raise NavMonitorError(
            f'parameter {self.name} is {_described(value)}; it must be of type {kind}'
        )


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        'bundle', 'string', 'traffic_signs',
        'Fitted monitor: the folder of a bundle, or the name of a shipped one '
        '(`traffic_signs`, `digits`).',
        at_configure=True,
    ),
    Parameter(
        'backend', 'string', 'auto',
        'What runs the network: `torch`, or `onnxruntime` or `openvino` where the bundle was '
        'exported for it (`nav_monitor export`); `auto` takes the fastest that is installed and '
        'agrees.',
        choices=('auto', 'torch', 'onnxruntime', 'openvino'), at_configure=True,
    ),
    Parameter(
        'device', 'string', 'auto',
        'Where torch runs the network: `auto` (the first CUDA device if there is one), `cpu`, '
        '`cuda:N`; other backends run on the CPU.',
        at_configure=True,
    ),
    Parameter(
        'torch_threads', 'int', 0,
        'Threads of the network on the CPU, whatever backend runs it. 0: passes are timed when the '
        'node is configured, and there are as many as cores if that is 1.5 times as fast, else '
        'one.',
        low=0, high=256, at_configure=True,
    ),
    Parameter(
        'trusted_packages', 'string[]', [''],
        'Python packages whose network code a bundle may import, besides torchvision (empty names '
        'are ignored).',
        at_configure=True,
    ),
    Parameter(
        'score', 'string', 'fused',
        'The score that decides: `fused`, or one that the bundle holds, such as `pattern`.',
        at_configure=True,
    ),
    Parameter(
        'extra_scores', 'string[]', [''],
        'Scores of the bundle that `~/ood_status` names besides those that decide; `all` for all '
        'of them. Each costs time (empty names are ignored).',
        at_configure=True,
    ),
    Parameter(
        'autostart', 'bool', True,
        'Configure and activate at start. If false, a lifecycle manager does.',
        read_only=True,
    ),
    Parameter(
        'image_transport', 'string', 'raw',
        'Form of the input: `raw` subscribes to `image`, `compressed` to `image/compressed`.',
        choices=('raw', 'compressed'), read_only=True, per_camera=True,
    ),
    Parameter(
        'cameras', 'string[]', [''],
        'Names of several cameras that one network watches: each has its `NAME/image`, its own '
        'evidence and its own `NAME/ood_alert`; `ood_alert` is True if any of them is. Empty: one '
        'camera without a name, on `image`.',
        read_only=True,
    ),
    Parameter(
        'camera_rate', 'float', 60.0,
        'At most so many images a second of each of several cameras are judged, always the newest, '
        "so that a camera that floods does not take the others' time.",
        low=10.0, high=1000.0, unit='Hz', per_camera=True,
    ),
    Parameter(
        'roi', 'int[]', [0, 0, 0, 0],
        'Region of the image that is classified: x, y, width, height. Width and height 0 mean the '
        'whole image.',
        low=0, unit='pixels', per_camera=True,
    ),
    Parameter(
        'max_pixels', 'int', 50_000_000,
        'Larger images are refused (`bad_image`) before they are decoded.',
        low=1, unit='pixels', per_camera=True,
    ),
    Parameter(
        'alert_rate', 'float', 10.0,
        'How often `ood_alert` is repeated. Its offered deadline is three periods, its liveliness '
        'lease five.',
        low=1.0, high=100.0, read_only=True, unit='Hz',
    ),
    Parameter(
        'evidence', 'string', 'e_cusum',
        'How odd frames add up to an alert: `e_cusum` (e-values, with a budget of false alarms) or '
        '`k_of_n` (`enter_count` flagged frames among the last `enter_window`).',
        choices=SCHEMES, per_camera=True,
    ),
    Parameter(
        'false_alarms_per_hour', 'float', 1.0,
        'Budget of `e_cusum`: what lies `1 / evidence_rate` apart being independent, the alert '
        'rises at most so often without cause.',
        low=1e-6, high=1e6, unit='1/h', per_camera=True,
    ),
    Parameter(
        'evidence_rate', 'float', 15.0,
        'So many frames a second count as independent in `e_cusum`; frames that come faster count '
        'less each. Lower it where the scene changes slowly: fewer false alarms, later alerts.',
        low=0.001, high=1000.0, unit='Hz', per_camera=True,
    ),
    Parameter(
        'evidence_level', 'float', STRANGE,
        'P-value at or below which a frame is evidence in `e_cusum`; raised where the bundle has '
        "too few calibration images for it, lowered to the bundle's threshold.",
        low=1e-6, high=0.5, at_configure=True,
    ),
    Parameter(
        'enter_count', 'int', 3,
        'Flagged frames that raise the alert in `k_of_n`.',
        low=1, high=1000, unit='frames', per_camera=True,
    ),
    Parameter(
        'enter_window', 'int', 3,
        'The last frames among which `k_of_n` counts; not below `enter_count`.',
        low=1, high=1000, unit='frames', per_camera=True,
    ),
    Parameter(
        'exit_count', 'int', 5,
        'In-distribution frames in a row that lower the alert; also needed after the start and '
        'after each fault.',
        low=1, high=1000, unit='frames', per_camera=True,
    ),
    Parameter(
        'latch', 'bool', False,
        'Keep an out-of-distribution alert until `~/reset_alert` is called.',
        per_camera=True,
    ),
    Parameter(
        'image_timeout', 'float', 0.5,
        'Maximum age of the newest judged image while `ood_alert` is False, from its arrival and, '
        'unless `stamp_tolerance` is 0, from its stamp; beyond it, and without an image for so '
        'long, the input is stale. Must be longer than the camera period, transport and judging '
        'together.',
        low=0.01, high=60.0, unit='s', per_camera=True,
    ),
    Parameter(
        'frozen_timeout', 'float', 1.0,
        'Time of identical images after which the camera counts as frozen; 0 switches the check '
        'off (simulated or rendered scenes may stand still).',
        low=0.0, high=3600.0, unit='s', per_camera=True,
    ),
    Parameter(
        'inference_timeout', 'float', 1.0,
        'Time that an image may wait for its verdict.',
        low=0.01, high=60.0, unit='s', per_camera=True,
    ),
    Parameter(
        'stamp_tolerance', 'float', 1.0,
        "So far may an image's stamp be from the node's clock, either way, or it is stale; 0 takes "
        'any stamp (bags played without `use_sim_time`, cameras with a clock of their own).',
        low=0.0, high=3600.0, unit='s', per_camera=True,
    ),
    Parameter(
        'blank_contrast', 'float', 2.0,
        'Standard deviation of the gray levels (of 255) below which an image is blank '
        '(`bad_image`), as from a covered lens; also refuses images that are almost all white. 0 '
        'judges every image.',
        low=0.0, high=255.0, unit='gray levels', per_camera=True,
    ),
    Parameter(
        'drift_window', 'float', 600.0,
        'Time over which p-values are tested for having become too small as a whole, which '
        '`/diagnostics` then calls a stale calibration; 0 switches the test off.',
        low=0.0, high=3600.0, unit='s', per_camera=True,
    ),
    Parameter(
        'incident_folder', 'string', '',
        'Folder into which the frames of before a rising alert are written, with their verdicts; '
        'empty: none are.',
    ),
    Parameter(
        'incident_seconds', 'float', 5.0,
        'So far back goes an incident.',
        low=0.1, high=60.0, unit='s',
    ),
    Parameter(
        'incident_rate', 'float', 5.0,
        'At most so many frames a second are kept for an incident; the one that raises the alert '
        'always is.',
        low=0.1, high=60.0, unit='Hz',
    ),
    Parameter(
        'incident_limit', 'float', 200.0,
        'Size of the folder beyond which its oldest incidents are removed.',
        low=1.0, high=1e6, unit='MB',
    ),
    Parameter(
        'incident_interval', 'float', 10.0,
        'Time between two incidents, and between two snapshots.',
        low=0.0, high=86400.0, unit='s',
    ),
    Parameter(
        'snapshot_service', 'string', '',
        "Name of a rosbag2 recorder's snapshot service (`/rosbag2_recorder/snapshot`, of `ros2 bag "
        'record --snapshot-mode`) that is called when the alert rises; empty: none is.',
        at_configure=True,
    ),
    Parameter(
        'top_k', 'int', 3,
        'Classes in `~/prediction`.',
        low=1, high=1000, at_configure=True,
    ),
    Parameter(
        'view_rate', 'float', 10.0,
        'At most so many `~/overlay` and `~/activations` pictures, and volumes, are made, and only '
        'for subscribers.',
        low=0.1, high=120.0, unit='Hz',
    ),
    Parameter(
        'activation_layer', 'string', '',
        'Layer that `~/activations` and `~/activation_volume` show: a name or a 1-based number '
        '(`nav_monitor view layers BUNDLE` lists them); empty for the last one with extent.',
    ),
    Parameter(
        'activation_channels', 'int', 64,
        'Channels that are shown at most.',
        low=1, high=4096,
    ),
    Parameter(
        'activation_order', 'string', 'strongest',
        'Order of the channels.',
        choices=('strongest', 'index'),
    ),
    Parameter(
        'activation_colormap', 'string', 'viridis',
        'Colours of unsigned maps.',
        choices=('viridis', 'inferno'),
    ),
    Parameter(
        'activation_scale', 'string', 'training',
        'What the colours span: `training`, the range that the layer had there, the same in every '
        'frame; `image`, the range of each image by itself.',
        choices=('training', 'image'),
    ),
)

BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}


def check_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters checked, each alone and then together.

    Args:
        values: A value for each parameter of the table.

    Raises:
        NavMonitorError: A value is wrong; the message names it.
    """
    checked = {name: BY_NAME[name].check(value) for name, value in values.items()}
    roi = checked['roi']
    if len(roi) != 4:
        raise NavMonitorError(
            f'parameter roi has {len(roi)} numbers; it must be x, y, width, height'
        )
    if (roi[2] == 0) != (roi[3] == 0):
        raise NavMonitorError(
            f'parameter roi is {roi}; width and height must both be 0 or both above 0'
        )
    check_camera_names(checked['cameras'], taken=BY_NAME)
    device = checked['device']
    number = device.removeprefix('cuda:')
    numbered = device != number and number.isascii() and number.isdecimal()
    if device not in {'auto', 'cpu', 'cuda'} and not numbered:
        raise NavMonitorError(
            f'parameter device is {_shown(device)}; it must be auto, cpu or cuda:N'
        )
    return checked


def declare(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """Declare the parameters of a table on a node.

    Returns:
        Their values, by name, each checked by itself.

    Raises:
        NavMonitorError: A value given at start has a wrong type or is out of range.
    """
    # Imported here, so that the table can be read, and the documentation written, without ROS.
    from rcl_interfaces.msg import ParameterDescriptor

    values, given = {}, overrides_of(node)
    for parameter in table:
        descriptor = ParameterDescriptor(
            description=parameter.text,
            additional_constraints=parameter.range,
            read_only=parameter.read_only,
            dynamic_typing=True,  # the table checks types; whole numbers may stand for floats
        )
        value = parameter.check(given.get(parameter.name, parameter.default))
        # What is declared is what is in force: an empty list has no type in ROS.
        node.declare_parameter(parameter.name, value, descriptor, ignore_override=True)
        values[parameter.name] = value
    return values


def overrides_of(node: Any) -> dict[str, Any]:
    """Return the parameters that a node of rclpy was given at start, by full name.

    rclpy has no public way to them, and gives nothing for an empty list, whose type ROS does not
    know.
    """
    return {
        name: [] if given.value is None else plain(given.value)
        for name, given in node._parameter_overrides.items()
    }


def plain(value: Any) -> Any:
    """Return a parameter's value in Python's own types; rclpy gives arrays for lists."""
    return value.tolist() if hasattr(value, 'tolist') else value


def markdown_table(table: Sequence[Parameter]) -> str:
    """Return the parameters as a Markdown table."""
    lines = ['| parameter | type | default | range | description |', '|---|---|---|---|---|']
    for p in table:
        unit = f' {p.unit}' if p.unit else ''
        fixed = (' *Per camera.*' if p.per_camera else '') + (
            ' *Read-only.*' if p.read_only else ''
        )
        lines.append(
            f'| `{p.name}` | {p.type} | `{_yaml_value(p.default)}`{unit} | {p.range} '
            f'| {p.text}{fixed} |'
        )
    return '\n'.join(lines)


def yaml_file(
    table: Sequence[Parameter] = PARAMETERS,
    node: str = 'nav_monitor',
    module: str = 'parameters',
) -> str:
    """Return a complete, commented parameter file with all defaults.

    Args:
        table: The parameters.
        node: Whose they are.
        module: Where the table stands, in nav_monitor_ros/ros.
    """
    lines = [
        f'# Parameters of {node}, all at their defaults. Written by tools/write_docs.py from',
        f'# nav_monitor_ros/ros/{module}.py; copy it and change the copy.',
        '/**:',
        '  ros__parameters:',
    ]
    for p in table:
        facts = [
            p.type, p.unit, p.range.replace('`', ''), 'per camera' if p.per_camera else '',
            'read-only' if p.read_only else '',
        ]
        lines.append('')
        lines.extend(f'    # {text}' for text in textwrap.wrap(p.text.replace('`', ''), 92))
        lines.append(f'    # ({"; ".join(fact for fact in facts if fact)})')
        lines.append(f'    {p.name}: {_yaml_value(p.default)}')
    return '\n'.join(lines) + '\n'


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def _shown(value: Any) -> str:
    """Return a value that somebody sent fit for a message of one line."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:80]}...'


def _described(value: Any) -> str:
    if value is None:
        return 'not set'
    names = {bool: 'bool', int: 'int', float: 'float', str: 'string'}
    kind = 'list' if isinstance(value, Sequence) else type(value).__name__
    return f'{_shown(value)}, a {names.get(type(value), kind)}'
