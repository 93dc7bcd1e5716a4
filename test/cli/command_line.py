"""Functions that run ``nav_monitor`` as a process and check its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {'bundle.yaml', 'model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md'}


def environment():
    paths = [str(ROOT), str(ROOT / 'test'), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return {
        **os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'OMP_NUM_THREADS': '1',
        'COLUMNS': '200',
    }


@dataclass(frozen=True)
class Ended:
    """Result of a process."""

    status: int
    out: str
    err: str


def run_cold(*arguments, cwd=ROOT):
    """Run ``nav_monitor`` as a user does."""
    done = subprocess.run(
        [sys.executable, '-m', 'nav_monitor_ros.cli.command', *map(str, arguments)], cwd=cwd,
        env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


FIT = {
    '--model': 'tiny:Bars', '--weights': 'bars.safetensors', '--data': 'train',
    '--calibration': 'held_out.npz', '--size': '12x12', '--mean': '0.5,0.5,0.5',
    '--std': '0.25,0.25,0.25', '--false-alarm-rate': '0.1', '--output': 'fitted',
}


def fit_arguments(**changes):
    """Return the arguments of a valid fit, with some options changed."""
    options = {**FIT, **{f'--{name.replace("_", "-")}': value for name, value in changes.items()}}
    return ['fit', *(part for pair in options.items() if pair[1] is not None for part in pair)]


def refused(ended, command):
    """Return the one-line error of a command that exited with status 2."""
    assert ended.status == 2, ended
    assert ended.out == ''
    assert ended.err.endswith('\n') and ended.err.count('\n') == 1, ended.err
    assert ended.err.startswith(f'nav_monitor {command}: ')
    return ended.err.strip()


# One process runs all commands, because importing takes longer than refusing them.
MANY = """
import json, sys
from nav_monitor_ros.cli import main
for arguments in json.load(sys.stdin):
    print('status', main.main(arguments), file=sys.stderr)
"""


def refusals(desk, commands, lacking=()):
    """Return the one-line error of each command, which must exit with status 2."""
    done = subprocess.run(
        [*lacking, sys.executable, '-c', MANY], cwd=desk, env=environment(), text=True,
        input=json.dumps(commands), capture_output=True, check=False, timeout=120)
    lines = done.stderr.splitlines()
    assert lines[1::2] == ['status 2'] * len(commands), done.stderr
    return lines[::2]
