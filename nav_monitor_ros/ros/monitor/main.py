"""The executable ``monitor``."""

from __future__ import annotations

import sys
import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.monitor.node import STOPPING, MonitorNode
from nav_monitor_ros.ros.process.log import log_to_ros
from nav_monitor_ros.ros.process.process import (
    FAILED,
    LAST_LINES,
    UNUSABLE,
    StopRequest,
    StuckThreadError,
    run,
)
from nav_monitor_ros.ros.process.spinning import Failures, spin_until
from nav_monitor_ros.ros.process.usage import Usage
from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS

WAITING = 60.0  # time between two looks for a request to stop, seconds; a request ends it at once
CLOSING = 3.0  # time after which the process ends in any case, seconds; launch waits for 5 s


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal arrives.

    Returns:
        Exit status: 0 after a signal; 1 if the configuration cannot be used, and 70 if the node
        fails, after one line with the reason.
    """
    usage = Usage(
        'monitor',
        'The lifecycle node nav_monitor: it classifies camera images and reports on ood_alert when '
        'the class must not be trusted.',
        '-p bundle:=digits -r image:=/camera/image_raw', PARAMETERS,
        'monitor.launch.py bundle:=digits image_topic:=/camera/image_raw',
    )
    return run('nav_monitor', MonitorNode, _watch, args, usage)


def _watch(node: MonitorNode, stop: StopRequest) -> int:
    log_to_ros(node.log)
    statuses: list[int] = []

    def end_for_restart(reason: str) -> None:
        node.log.error(f'{reason}; ending with status {FAILED}, so that the node can be restarted')
        statuses.append(FAILED)
        stop.request()

    node.on_lost_input = end_for_restart
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    serving = threading.Thread(
        target=_execute, args=(node, executor, stop, statuses), name='nav_monitor executor',
        daemon=True,
    )
    serving.start()
    while not stop.wait(WAITING):
        pass
    node.announce_shutdown()
    closing = threading.Thread(
        target=_close, args=(node, executor, serving), name='nav_monitor closing', daemon=True
    )
    closing.start()
    closing.join(CLOSING)  # the node's heartbeat repeats True meanwhile
    node.wait_for_all_acked()
    node.log.flush(LAST_LINES)
    status = statuses[0] if statuses else 0
    if closing.is_alive() or serving.is_alive():
        raise StuckThreadError(status)  # stuck in foreign code
    return status


def _close(
    node: MonitorNode, executor: SingleThreadedExecutor, serving: threading.Thread
) -> None:
    executor.shutdown(timeout_sec=STOPPING)
    serving.join()
    try:
        node.stop(STOPPING)
    except NavMonitorError as error:
        node.log.error(str(error))


def _execute(
    node: MonitorNode,
    executor: SingleThreadedExecutor,
    stop: StopRequest,
    statuses: list[int],
) -> None:
    try:
        if node.autostart:
            for transition in (node.trigger_configure, node.trigger_activate):
                if not stop.is_set():
                    transition()
                    if node.failure:  # the transition has logged it
                        statuses.append(FAILED if node.failed_unexpectedly else UNUSABLE)
                        return
        # spin() returns only after the executor or its context has been shut down.
        spun: list[bool] = []
        failures = Failures(node.log)

        def spin() -> None:
            executor.spin()
            spun.append(True)

        spin_until(lambda: bool(spun), spin, failures)
    except ExternalShutdownException:
        pass
    except BaseException as error:  # signals do not raise here, but foreign code may
        node.log.failure('executor failed', error)
        statuses.append(FAILED)
    finally:
        stop.request()


if __name__ == '__main__':
    sys.exit(main())
