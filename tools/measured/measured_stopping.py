"""Stopping distances and safe speeds (docs/safety.md) as Markdown tables."""

from __future__ import annotations

import math

from measured import read, table

SPEEDS = (0.25, 0.5, 1.0, 1.5, 2.0)  # m/s
BRAKING = 1.0  # m/s2
MARGIN = 0.1  # m that shall remain
DISTANCES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)  # m
DELAYS = (0.15, 0.3, 0.6, 1.1)  # s
# Time with the defaults at 30 Hz until the base receives zero, s: the longest one, or the median
# where stated; section 'Detection time' with 0.01 s for transport.
EVENTS = {
    'a damaged, blank or wrongly stamped image': 0.02,
    'the scene becomes out-of-distribution (median, 4 frames)': 0.14,
    'the monitor dies': 0.56,
    'the camera stops publishing': 0.61,
    'the network hangs': 0.64,
    'the camera freezes': 1.06,
}
_NAMES = {'drop_off': 'drop-off', 'fallen_sign': 'fallen sign', 'robot': 'another robot'}


def stopping_distance(speed: float, delay: float, braking: float = BRAKING) -> float:
    """Return the distance in m that a robot covers until it stands still.

    Args:
        speed: m/s.
        delay: Time until it brakes, s.
        braking: m/s2.
    """
    return speed * delay + speed**2 / (2 * braking)


def largest_speed(distance: float, delay: float, braking: float = BRAKING) -> float:
    """Return the speed in m/s from which a robot stops within a distance in m."""
    return braking * (math.sqrt(delay**2 + 2 * distance / braking) - delay)


def stopping() -> str:
    """Return the distance from each event to standstill, by speed."""
    return table(
        ['event', 'zero at the base after', *(f'{speed:g} m/s' for speed in SPEEDS)],
        [
            (event, f'{delay:.2f} s',
             *(f'{stopping_distance(speed, delay):.2f} m' for speed in SPEEDS))
            for event, delay in EVENTS.items()
        ],
    )


def speeds() -> str:
    """Return the largest safe speed, by the distance at which the object becomes visible."""
    return table(
        ['visible from', *(f'T = {delay:g} s' for delay in DELAYS)],
        [
            (f'{distance:g} m',
             *(f'{largest_speed(distance - MARGIN, delay):.2f} m/s' for delay in DELAYS))
            for distance in DISTANCES
        ],
    )


def visibility() -> str:
    """Return from which distance each kind of object is visible in the simulator."""
    delay = DELAYS[1]
    return table(
        ['object', 'visible from (median)', 'visible from (9 of 10 objects)',
         f'highest speed, if the alert comes after {delay:g} s'],
        [
            (_NAMES.get(kind, kind), f'{row["median"]:.1f} m', f'{row["p10"]:.1f} m',
             f'{largest_speed(max(row["p10"] - MARGIN, 0), delay):.2f} m/s')
            for kind, row in read('visibility')['kinds'].items()
        ],
    )
