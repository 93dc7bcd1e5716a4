"""What the demo and the drive share: output folder, exit status, and the node that listens."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rclpy
from demo_processes import DemoError, Processes, use_large_shared_memory
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from nav_monitor_ros import interrupt
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_folder import atomic_folder, require_writable_folder
from nav_monitor_ros.ros.process.domain import take_domain

PAGE = 'index.html'


def run_demo(
    name: str, output: Path, own_files: Sequence[str], run: Callable[[Path], bool]
) -> int:
    """Run a demo in a ROS graph of its own.

    Args:
        name: Name for messages.
        output: Folder for the output.
        own_files: Patterns of the files that a run writes, replacing those of an earlier run.
        run: Function that writes the output to a folder and returns whether the demo went well.

    Returns:
        0 if the demo went well, 1 if not or if it could not be finished, 130 after Ctrl-C, SIGTERM
        or SIGHUP.
    """
    interrupt.handle_signals()
    interrupt.set_exit_message(lambda: f'{name}: interrupted')
    try:
        require_writable_folder(output)
        with output_folder(output, own_files, name) as folder:
            # The run's ROS graph is isolated from all others, on this machine and elsewhere.
            os.environ.update(take_domain().environment)
            use_large_shared_memory()
            went_well = run(folder)
    except (DemoError, NavMonitorError) as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'{name}: --output {output}: {error.strerror or error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{name}: interrupted', file=sys.stderr)
        return interrupt.EXIT_STATUS
    if not went_well:
        print(f'the logs are {output}/*.log')
    print(f'open {output}/{PAGE}')
    return 0 if went_well else 1


@contextmanager
def output_folder(folder: Path, own_files: Sequence[str], name: str) -> Iterator[Path]:
    """Yield an empty folder whose content replaces that of an earlier run once it is complete.

    Until then, and if the run is interrupted or fails, the earlier run's files are kept. The logs
    of a failed run are copied to another folder.

    Raises:
        DemoError: The run failed; the text states where its logs are.
        OSError: The folder is not writable.
    """
    owned = [path.name for pattern in own_files for path in folder.glob(pattern)]
    with atomic_folder(folder, owned=owned, last=PAGE) as scratch:
        try:
            yield scratch
        except DemoError as error:
            logs = [path for path in scratch.glob('*.log') if path.stat().st_size]
            if not logs:
                raise
            kept = Path(tempfile.mkdtemp(prefix=f'nav_monitor_{name}_'))
            for log in logs:
                shutil.copy(log, kept)
            raise DemoError(f'{error} (the logs are in {kept})') from error


@contextmanager
def listening(make_node: Callable[[], Node], processes: Processes) -> Iterator[Callable[[], None]]:
    """Yield a function that serves a node for a moment and checks that all processes are running.

    Args:
        make_node: Function that returns the node, which receives the messages.
        processes: The processes; they are stopped at the end.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node = make_node()
    executor.add_node(node)

    def listen() -> None:
        interrupt.raise_if_requested()
        executor.spin_once(timeout_sec=0.02)
        processes.check()

    try:
        yield listen
    finally:
        processes.stop()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
