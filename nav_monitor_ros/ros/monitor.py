"""The executable ``monitor``."""

from __future__ import annotations

import sys
import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.log import log_to_ros
from nav_monitor_ros.ros.node import MonitorNode
from nav_monitor_ros.ros.process import FAILED, UNUSABLE, StopRequest, run


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal ends it.

    Returns:
        0 after a signal; 1 if the configuration cannot be used, 70 if the node fails, after one
        line that says why.
    """
    return run('nav_monitor', MonitorNode, _watch, args)


def _watch(node: MonitorNode, stop: StopRequest) -> int:
    log_to_ros(node.get_logger())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    statuses: list[int] = []
    thread = threading.Thread(
        target=_execute, args=(node, executor, stop, statuses), name='nav_monitor executor'
    )
    thread.start()
    while not stop.wait(node.alert_period):
        try:
            node.beat()
        except Exception as error:  # silence would be worse than whatever this is
            node.get_logger().error(f'heartbeat: {type(error).__name__}: {error}')
    executor.shutdown(timeout_sec=1.0)
    thread.join()
    _say_goodbye(node)
    return statuses[0] if statuses else 0


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
                    if node.trouble:
                        statuses.append(UNUSABLE)  # the transition has logged the one line
                        return
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception as error:
        node.get_logger().fatal(f'executor failed: {type(error).__name__}: {error}')
        statuses.append(FAILED)
    finally:
        stop.request()


def _say_goodbye(node: MonitorNode) -> None:
    try:
        node.stop()
    except NavMonitorError as error:
        node.get_logger().error(str(error))


if __name__ == '__main__':
    sys.exit(main())
