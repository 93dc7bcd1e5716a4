"""Watch a simulated robot drive, meet something that it has never seen, and stop before it.

Starts the monitor with the bundle `corridor`, `safety_stop` and a simulated robot as processes,
records their messages over DDS, and exits with status 0 only if the robot stopped before contact
because its images were unusual. Writes a page with a video.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

try:
    from drive_listener import DriveListener
    from rich.console import Console

    from nav_monitor_ros import interrupt
    from nav_monitor_ros.sim.mujoco_library import load_mujoco
except ImportError as error:
    sys.exit(
        f"drive: {error}: run 'make setup' once, then '. ./env.sh' in this shell (or 'make drive')"
    )

from demo_processes import DemoError, Processes
from demo_run import PAGE, listening, run_demo
from drive_page import VIDEO, headline, write_drive_page
from drive_record import STANDSTILL, DriveRecord

from nav_monitor_ros.sim.camera.rendering import CAMERA
from nav_monitor_ros.sim.encounters import draw_encounter
from nav_monitor_ros.sim.world.unknown_objects import UNKNOWN

START_TIMEOUT = 60.0  # longest time for a process to start on a busy machine, seconds
LONGEST = 180.0  # longest drive, seconds
STANDS = 3.0  # time at a standstill after which the drive has ended, seconds
STUCK = 20.0  # time at a standstill elsewhere after which something is wrong, s
NEAR = 6.0  # distance from the object within which a stop is one for it, m
OWN_FILES = (
    PAGE, VIDEO, 'monitor.log', 'safety_stop.log', 'simulated_robot.log',
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drive.

    Returns:
        0 if the robot stopped before contact, 1 if not or if the drive could not be finished, 130
        after Ctrl-C, SIGTERM or SIGHUP.
    """
    options = _arguments(arguments)

    def run(folder: Path) -> bool:
        load_mujoco()  # fails now instead of after the drive
        record = _drive(options, folder)
        world = draw_encounter(
            options.kind, options.seed, pieces=options.pieces, approach=options.approach
        ).world
        write_drive_page(folder / PAGE, record, world, CAMERA.rate)
        print(headline(record, options.kind.replace('_', '-')))
        return not record.touched and record.first_alert is not None

    return run_demo('drive', options.output, OWN_FILES, run)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kind', choices=tuple(UNKNOWN), default='plant',
                        help='unknown object (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of world and object')
    parser.add_argument('--pieces', type=int, default=4,
                        help='straight pieces of the corridor (default: %(default)s)')
    parser.add_argument('--approach', type=float, default=35.0, metavar='M',
                        help='path before the object in m (default: %(default)s)')
    parser.add_argument('--bundle', default='corridor', help='(default: %(default)s)')
    parser.add_argument('--output', type=Path, default=Path('drive_output'), metavar='DIR',
                        help='folder for page, video and logs (default: %(default)s)')
    return parser.parse_args(arguments)


def _drive(options: argparse.Namespace, folder: Path) -> DriveRecord:
    """Start everything, and record until the robot has stopped, arrived or touched something."""
    record, console = DriveRecord(), Console(highlight=False)
    processes = Processes(folder)

    def wait(condition: Callable[[], object], timeout: float, what: str = '') -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                if what:
                    raise DemoError(f'waited {timeout:g} s for {what}')
                return
            listen()

    with listening(lambda: DriveListener(record), processes) as listen:
        console.print(f"the monitor loads its bundle '{options.bundle}'")
        processes.start('monitor', {'bundle': options.bundle})
        processes.start('safety_stop', {})
        wait(lambda: record.reason == 'no_image', START_TIMEOUT, 'the monitor to be active')
        processes.start('simulated_robot', {
            'kind': options.kind, 'seed': str(options.seed), 'pieces': str(options.pieces),
            'approach': str(options.approach),
        }, module='nav_monitor_ros.ros.simulated_robot')
        wait(lambda: record.sights, START_TIMEOUT, 'the first image')
        wait(lambda: record.speed > STANDSTILL, START_TIMEOUT, 'the robot to drive')
        console.print('the robot drives')
        wait(_Ended(record, console), LONGEST)
    return record


class _Ended:
    """Tells when a drive has ended, and prints a line each second."""

    def __init__(self, record: DriveRecord, console: Console) -> None:
        self._record, self._console = record, console
        self._moved = time.monotonic()
        self._next = 0.0

    def __call__(self) -> bool:
        now, record = time.monotonic(), self._record
        if record.speed > STANDSTILL:
            self._moved = now
        elif record.gap > NEAR and now - self._moved > STUCK:
            raise DemoError(
                f'the robot has been standing still for {STUCK:g} s, {record.gap:.1f} m from the '
                f'object, and the alert is {record.reason}')
        if now >= self._next:
            self._next = now + 1.0
            newest = record.sights[-1]
            self._console.print(
                f'{newest.time:6.1f} s  {record.speed:4.2f} m/s  {newest.class_name:7} '
                f'p = {newest.p_value:.2g}' + (f'  STOP: {newest.reason}' if newest.alert else ''),
                soft_wrap=True)
        return record.touched or (record.gap <= NEAR and now - self._moved > STANDS)


if __name__ == '__main__':
    interrupt.exit_process(main())
