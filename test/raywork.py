"""Work for a Ray cluster without a network, which workers can import quickly."""

from __future__ import annotations

import os
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError


class Work:
    """Work that squares numbers; its job may specify a number that kills the worker or fails."""

    def __init__(self, job):
        self.job = job

    def do(self, number):
        folder = self.job.get('folder')
        if folder is not None:
            (Path(folder) / f'{number}-{os.getpid()}').touch()
        if number == self.job.get('dies_at') and not self.job['mark'].exists():
            self.job['mark'].touch()
            os._exit(1)
        if number == self.job.get('always_dies_at'):
            os._exit(1)
        if number == self.job.get('refuses'):
            raise NavMonitorError('number 3 is not wanted; leave it out')
        return number**2


def joined(job, left, right):
    return f'({left} {right})'
