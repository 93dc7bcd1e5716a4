"""The executable ``monitor``."""

from __future__ import annotations

import signal
import sys
import threading

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.log import log_to_ros
from nav_monitor_ros.ros.node import MonitorNode


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Returns:
        0 after a signal; 1 if the configuration cannot be used, after one line that says why.
    """
    # Own handlers: rclpy's would close the middleware before the last True is out.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = MonitorNode()
    except NavMonitorError as error:
        rclpy.logging.get_logger('nav_monitor').fatal(str(error))
        rclpy.shutdown()
        return 1
    log_to_ros(node.get_logger())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    failed = threading.Event()
    thread = threading.Thread(
        target=_execute, args=(node, executor, stop, failed), name='nav_monitor executor'
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
    node.destroy_node()
    rclpy.shutdown()
    return 1 if failed.is_set() else 0


def _execute(
    node: MonitorNode,
    executor: SingleThreadedExecutor,
    stop: threading.Event,
    failed: threading.Event,
) -> None:
    try:
        if node.autostart:
            for transition in (node.trigger_configure, node.trigger_activate):
                if not stop.is_set():
                    transition()
                    if node.trouble:
                        failed.set()  # the transition has logged the one line that says why
                        return
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception as error:
        node.get_logger().fatal(f'executor failed: {type(error).__name__}: {error}')
        failed.set()
    finally:
        stop.set()


def _say_goodbye(node: MonitorNode) -> None:
    try:
        node.stop()
    except NavMonitorError as error:
        node.get_logger().error(str(error))


if __name__ == '__main__':
    sys.exit(main())
