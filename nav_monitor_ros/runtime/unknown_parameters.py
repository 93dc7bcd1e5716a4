"""Parameters that were given but have no effect, mostly because they are misspelt."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nav_monitor_ros.errors import did_you_mean

# Declared or read by ROS itself or by related tools, some of them only in some versions.
FOREIGN = frozenset({'use_sim_time', 'start_type_description_service'})
FOREIGN_PREFIXES = ('qos_overrides.', 'diagnostic_updater.')
MOST = 20  # largest number of parameters that are listed individually


def describe_unknown(
    given: Iterable[str],
    known: Collection[str],
    *,
    per_camera: Collection[str] = (),
    cameras: Collection[str] = (),
) -> list[str]:
    """Return one line for each unknown parameter, with the nearest known one.

    Args:
        given: Full names of the given parameters.
        known: Full names of the parameters that have an effect.
        per_camera: Names of the parameters that each camera can override.
        cameras: Names of the cameras.
    """
    unknown = sorted(
        name for name in given
        if name not in known and name not in FOREIGN and not name.startswith(FOREIGN_PREFIXES)
    )
    lines = [
        f"parameter '{name[:100]}' is unknown and has no effect"
        f'{_remedy(name, known, per_camera, cameras)}'
        for name in unknown[:MOST]
    ]
    if len(unknown) > MOST:
        lines.append(f'{len(unknown) - MOST} more parameters are unknown and have no effect')
    return lines


def _remedy(
    name: str, known: Collection[str], per_camera: Collection[str], cameras: Collection[str]
) -> str:
    camera, _, last = name.rpartition('.')
    if camera in cameras and last in known and last not in per_camera:
        return f': {last} cannot be set for a single camera'
    nearest = did_you_mean(name, (*known, *FOREIGN))
    if camera and camera not in cameras and last in per_camera:
        there = f'cameras are {", ".join(cameras)}' if cameras else 'the parameter cameras is empty'
        return f": there is no camera '{camera[:100]}' ({there}){nearest if cameras else ''}"
    return nearest
