"""Fixtures: a user's folder, a bundle fitted in it, and a quick way to run commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tiny
import torch
from command_line import ROOT, Ended, environment, fit_arguments, run_cold
from safetensors.torch import save_file

# Imports the modules of all commands once, then forks one process per command: importing torch and
# shutting it down take seconds, and there are many commands.
STARTER = """
import gc, json, os, runpy, sys, traceback
import nav_monitor_ros.bundle.networks, nav_monitor_ros.bundle.saving
import nav_monitor_ros.evaluation.evaluate
import nav_monitor_ros.fitting.train
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(order['cwd'])
        for number, name in ((0, os.devnull), (1, order['out']), (2, order['err'])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        sys.argv[1:] = order['arguments']
        status = 1
        try:
            runpy.run_module('nav_monitor_ros.cli.command', run_name='__main__', alter_sys=True)
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope='session')
def run(tmp_path_factory):
    """Return a function that quickly runs ``nav_monitor`` in a separate process."""
    folder = tmp_path_factory.mktemp('output')
    starter = subprocess.Popen(
        [sys.executable, '-c', STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(), cwd=ROOT,
    )

    def run_warm(*arguments, cwd=ROOT):
        out, err = (folder / f'{name}-{time.monotonic_ns()}' for name in ('out', 'err'))
        order = {
            'arguments': [*map(str, arguments)], 'cwd': str(cwd), 'out': str(out), 'err': str(err)
        }
        starter.stdin.write(json.dumps(order) + '\n')
        starter.stdin.flush()
        return Ended(int(starter.stdout.readline()), out.read_text(), err.read_text())

    yield run_warm
    starter.stdin.close()
    starter.wait(30)
    starter.stdout.close()


@pytest.fixture(scope='session')
def desk(tmp_path_factory):
    """Return a folder with weights and images like a user's."""
    folder = tmp_path_factory.mktemp('desk')
    for number, (image, label) in enumerate(zip(*tiny.images(1, 120), strict=True)):
        path = folder / 'train' / tiny.CLASSES[label] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[:, :, ::-1])
    for name, seed in (('held_out', 2), ('test', 3)):
        pixels, labels = tiny.images(seed, 80)
        np.savez(folder / f'{name}.npz', x=pixels, y=labels)
    np.savez(folder / 'strange.npz', x=tiny.strange(4, 40))
    save_file(tiny.network().state_dict(), folder / 'bars.safetensors')
    save_file(tiny.Bars(classes=4).state_dict(), folder / 'four.safetensors')
    torch.save(tiny.network(), folder / 'whole.pth')
    (folder / 'classes.txt').write_text('left\nmiddle\nright\n')
    (folder / 'two.txt').write_text('left\nright\n')
    (folder / 'empty').mkdir()
    (folder / 'input.yaml').write_text(
        'height: 12\nwidth: 12\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\n'
    )
    (folder / 'not_yaml').write_text('a: [')
    return folder


@pytest.fixture(scope='session')
def fitted(desk):
    """Return the result of a fit in a new interpreter."""
    return run_cold(*fit_arguments(), cwd=desk)
