"""What the rooms without ROS log, in the ROS log."""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger

PACKAGE = __name__.partition('.')[0]


class RosLogHandler(logging.Handler):
    """Hands records of Python's logging to a ROS logger."""

    def __init__(self, logger: RcutilsLogger) -> None:
        """Hand records to ``logger``."""
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on; rclpy wants a call of its own for each severity."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


def log_to_ros(logger: RcutilsLogger) -> None:
    """Send this package's records to a ROS logger, from INFO upwards, and nowhere else."""
    own = logging.getLogger(PACKAGE)
    own.handlers = [RosLogHandler(logger)]
    own.propagate = False
    own.setLevel(logging.INFO)
