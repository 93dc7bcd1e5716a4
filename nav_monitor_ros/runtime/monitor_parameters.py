"""The monitor's parameters: one table that declares, validates and documents them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.evidence import SCHEMES
from nav_monitor_ros.errors import NavMonitorError, short_repr
from nav_monitor_ros.runtime.camera_names import check_camera_names
from nav_monitor_ros.runtime.parameter_definition import Parameter

LEAST_BOND_PERIOD = 0.05  # seconds

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        'bundle', 'string', 'traffic_signs',
        'Fitted monitor: folder of a bundle, or name of a shipped bundle (`traffic_signs`, '
        '`digits`, `corridor`).',
        at_configure=True,
    ),
    Parameter(
        'backend', 'string', 'auto',
        'Backend that runs the network: `torch`, or `onnxruntime` or `openvino` if the bundle was '
        'exported for it (`nav_monitor export`); `auto` selects the first that is installed and '
        'approved for the bundle, in the order of docs/backends.md.',
        choices=('auto', 'torch', 'onnxruntime', 'openvino'), at_configure=True,
    ),
    Parameter(
        'device', 'string', 'auto',
        'Device on which torch runs the network: `auto` (the first CUDA device if there is one), '
        '`cpu` or `cuda:N`; other backends run on the CPU.',
        at_configure=True,
    ),
    Parameter(
        'torch_threads', 'int', 0,
        'Threads of the network on the CPU, for every backend. 0: forward passes are timed in '
        'the configure transition; all cores are used if that is at least 1.5 times as fast as one '
        'thread, and one thread otherwise.',
        low=0, high=256, at_configure=True,
    ),
    Parameter(
        'trusted_packages', 'string[]', [''],
        'Python packages from which a bundle may import network code, in addition to '
        'torchvision. Empty names are ignored. Example: `-p "trusted_packages:=[\'my_net\']"`.',
        at_configure=True,
    ),
    Parameter(
        'score', 'string', 'fused',
        'Score that determines the verdict: `fused`, or a score of the bundle, such as `pattern`.',
        at_configure=True,
    ),
    Parameter(
        'extra_scores', 'string[]', [''],
        'Scores of the bundle that `~/ood_status` reports in addition to those that determine the '
        'verdict; `all` for all of them. Each takes time (empty names are ignored).',
        at_configure=True,
    ),
    Parameter(
        'autostart', 'bool', True,
        'Configure and activate at start. If false, a lifecycle manager has to do it.',
        read_only=True,
    ),
    Parameter(
        'bond_heartbeat_period', 'float', 0.1,
        "Period of the heartbeat of the bond with Nav2's lifecycle manager while the node is "
        'active; 0: no bond. Has no effect if `autostart` is true, because no manager is then in '
        'charge.',
        low=0.0, high=1.0, read_only=True, unit='s',
    ),
    Parameter(
        'image_transport', 'string', 'raw',
        'Form of the input: `raw` subscribes to `image`, `compressed` to `image/compressed`.',
        choices=('raw', 'compressed'), read_only=True, per_camera=True,
    ),
    Parameter(
        'cameras', 'string[]', [''],
        'Names of several cameras that share one network: each has its own `NAME/image`, evidence '
        'and `NAME/ood_alert`; `ood_alert` is True if any of these alerts is. Empty: one unnamed '
        'camera, on `image`.',
        read_only=True,
    ),
    Parameter(
        'camera_rate', 'float', 60.0,
        'With several cameras, maximum number of images per second that are judged for each '
        'camera, always the newest, so that a camera that publishes too fast does not use up the '
        'time of the others.',
        low=10.0, high=1000.0, unit='Hz', per_camera=True,
    ),
    Parameter(
        'roi', 'int[]', [0, 0, 0, 0],
        'Region of the image to classify: x, y, width, height. A width and height of 0 select the '
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
        'Rate at which `ood_alert` is repeated. The offered deadline is three periods, the '
        'liveliness lease five.',
        low=1.0, high=100.0, read_only=True, unit='Hz',
    ),
    Parameter(
        'evidence', 'string', 'e_cusum',
        'Rule by which unusual frames are combined into an alert: `e_cusum` (e-values, with a '
        'budget of false alarms) or `k_of_n` (`enter_count` flagged frames among the last '
        '`enter_window`).',
        choices=SCHEMES, per_camera=True,
    ),
    Parameter(
        'false_alarms_per_hour', 'float', 1.0,
        'Budget of `e_cusum`: largest mean number of false alarms per hour, if frames that are '
        '`1 / evidence_rate` seconds apart are independent.',
        low=1e-6, high=1e6, unit='1/h', per_camera=True,
    ),
    Parameter(
        'evidence_rate', 'float', 15.0,
        'Number of frames per second that count as independent in `e_cusum`; at higher frame rates '
        'each frame counts less. A lower value gives fewer false alarms and later alerts; it is '
        'needed for scenes that change every second (docs/safety.md).',
        low=0.001, high=1000.0, unit='Hz', per_camera=True,
    ),
    Parameter(
        'evidence_level', 'float', DEFAULT_EVIDENCE_LEVEL,
        'P-value at or below which a frame counts as evidence for an alert in `e_cusum`; raised if '
        'the bundle has too few calibration images to bound the rate of such frames, but never '
        'above the threshold of the bundle.',
        low=1e-6, high=0.5, at_configure=True,
    ),
    Parameter(
        'enter_count', 'int', 3,
        'Number of flagged frames that raise the alert in `k_of_n`.',
        low=1, high=1000, unit='frames', per_camera=True,
    ),
    Parameter(
        'enter_window', 'int', 3,
        'Number of latest frames in which `k_of_n` counts; at least `enter_count`.',
        low=1, high=1000, unit='frames', per_camera=True,
    ),
    Parameter(
        'exit_count', 'int', 5,
        'Number of consecutive in-distribution frames that lower the alert; also required after '
        'the start and after each fault.',
        low=1, high=1000, unit='frames', per_camera=True,
    ),
    Parameter(
        'latch', 'bool', False,
        'Hold an out-of-distribution alert until `~/reset_alert` is called. The start counts as '
        'such an alert, since it may be a restart.',
        per_camera=True,
    ),
    Parameter(
        'image_timeout', 'float', 0.5,
        'Maximum age of the newest judged image while `ood_alert` is False, measured from its '
        'arrival and, unless `stamp_tolerance` is 0, from its stamp; beyond it, or without an '
        'image for this time, the input is stale. Must exceed the sum of camera period, transport '
        'time and judging time.',
        low=0.01, high=60.0, unit='s', per_camera=True,
    ),
    Parameter(
        'frozen_timeout', 'float', 1.0,
        'Time after which a camera that repeats one image, or cycles through up to eight images, '
        'counts as frozen; 0 switches the check off (simulated or rendered scenes may be static).',
        low=0.0, high=3600.0, unit='s', per_camera=True,
    ),
    Parameter(
        'input_rate_warn', 'float', 0.0,
        'Rate of arriving images below which `/diagnostics` (`input`) reports WARN. The rate is '
        'measured over the last 2 s, or over 5 periods of the camera if they take longer. 0: off.',
        low=0.0, high=1000.0, unit='Hz', per_camera=True,
    ),
    Parameter(
        'input_rate_error', 'float', 0.0,
        'Rate of arriving images, measured in the same way, below which `ood_alert` is True '
        '(`low_input_rate`). 0: off. Has an effect only above `1 / image_timeout`, because less '
        'frequent images are stale.',
        low=0.0, high=1000.0, unit='Hz', per_camera=True,
    ),
    Parameter(
        'inference_timeout', 'float', 1.0,
        'Maximum time that an image may wait for its verdict.',
        low=0.01, high=60.0, unit='s', per_camera=True,
    ),
    Parameter(
        'stamp_tolerance', 'float', 1.0,
        "Maximum absolute difference between an image's stamp and the node's clock, beyond which "
        'the image is stale; 0 accepts any stamp (bags played without `use_sim_time`, cameras with '
        'their own clock).',
        low=0.0, high=3600.0, unit='s', per_camera=True,
    ),
    Parameter(
        'blank_contrast', 'float', 2.0,
        'Standard deviation of each colour channel (of 255 levels) below which an image is blank '
        '(`bad_image`), as with a covered lens; images that are almost entirely white are also '
        'refused. 0: every image is judged.',
        low=0.0, high=255.0, unit='grey levels', per_camera=True,
    ),
    Parameter(
        'drift_window', 'float', 600.0,
        'Time over which the p-values are tested for being systematically too small; if they are, '
        '`/diagnostics` reports a stale calibration. 0 switches the test off.',
        low=0.0, high=3600.0, unit='s', per_camera=True,
    ),
    Parameter(
        'incident_folder', 'string', '',
        'Folder to which the frames that precede an alert are written, with their verdicts; empty: '
        'none are written.',
    ),
    Parameter(
        'incident_seconds', 'float', 5.0,
        'Time before the alert that an incident covers.',
        low=0.1, high=60.0, unit='s',
    ),
    Parameter(
        'incident_rate', 'float', 5.0,
        'Maximum number of frames per second that are kept for an incident; the frame that raises '
        'the alert is always kept.',
        low=0.1, high=60.0, unit='Hz',
    ),
    Parameter(
        'incident_limit', 'float', 200.0,
        'Size of the folder beyond which its oldest incidents are removed.',
        low=1.0, high=1e6, unit='MB',
    ),
    Parameter(
        'incident_interval', 'float', 10.0,
        'Minimum time between two incidents with the same reason, and between two snapshots.',
        low=0.0, high=86400.0, unit='s',
    ),
    Parameter(
        'snapshot_service', 'string', '',
        'Snapshot service of a rosbag2 recorder (`/rosbag2_recorder/snapshot` of `ros2 bag record '
        '--snapshot-mode`) to call when the alert is raised; empty: none.',
        at_configure=True,
    ),
    Parameter(
        'service_introspection', 'string', 'disabled',
        'Events that `~/set_enabled` and `~/reset_alert` publish for `ros2 service echo`: '
        '`metadata` (who called, and when) or `contents` (also requests and responses). Has no '
        'effect on Humble.',
        choices=('disabled', 'metadata', 'contents'),
    ),
    Parameter(
        'top_k', 'int', 3,
        'Number of classes in `~/prediction`.',
        low=1, high=1000, at_configure=True,
    ),
    Parameter(
        'view_rate', 'float', 10.0,
        'Maximum rate of `~/overlay`, `~/activations` and `~/activation_volume`, which are '
        'published only while somebody subscribes.',
        low=0.1, high=120.0, unit='Hz',
    ),
    Parameter(
        'activation_layer', 'string', '',
        'Layer that `~/activations` and `~/activation_volume` show: a name or a 1-based number '
        '(`nav_monitor view layers BUNDLE` lists them); empty: the last one with at least 4 x 4 '
        'positions that is not the output of pooling.',
        numbers_too=True,
    ),
    Parameter(
        'activation_channels', 'int', 64,
        'Maximum number of channels that are shown.',
        low=1, high=4096,
    ),
    Parameter(
        'activation_order', 'string', 'strongest',
        'Order of the channels.',
        choices=('strongest', 'index'),
    ),
    Parameter(
        'activation_colormap', 'string', 'viridis',
        'Colour map of unsigned maps.',
        choices=('viridis', 'inferno'),
    ),
    Parameter(
        'activation_scale', 'string', 'training',
        'Range of the colours: `training` is the range of the layer in training (1st to 99th '
        'percentile), the same for every frame; `image` is the range of each image.',
        choices=('training', 'image'),
    ),
)

BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}


def check_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check all parameters, each alone and then together, and return their values.

    Args:
        values: Value of each parameter in the table.

    Raises:
        NavMonitorError: A value is invalid; the message names the parameter.
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
    period = checked['bond_heartbeat_period']
    if 0.0 < period < LEAST_BOND_PERIOD:
        raise NavMonitorError(
            f'parameter bond_heartbeat_period is {period:g}; it must be 0 or at least '
            f'{LEAST_BOND_PERIOD:g}'
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
