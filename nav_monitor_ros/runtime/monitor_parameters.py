"""The monitor's parameters: one table that declares, validates and documents them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.evidence import SCHEMES
from nav_monitor_ros.errors import NavMonitorError, short_repr
from nav_monitor_ros.runtime.camera_names import check_camera_names
from nav_monitor_ros.runtime.parameter_definition import Parameter

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
        'evidence_level', 'float', DEFAULT_EVIDENCE_LEVEL,
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
        'Time without a new image, the same one or up to eight in turn being repeated, after which '
        'the camera counts as frozen; 0 switches the check off (simulated or rendered scenes may '
        'stand still).',
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
        'Standard deviation of each colour channel (of 255 levels) below which an image is blank '
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
        numbers_too=True,
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
            f'parameter device is {short_repr(device)}; it must be auto, cpu or cuda:N'
        )
    return checked
