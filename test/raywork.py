"""Work for a Ray cluster that needs no network; imported by its workers in a moment."""

from __future__ import annotations

import os
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError


class Work:
    """Squares numbers; its job may name one at which the worker dies, or another failure."""

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
