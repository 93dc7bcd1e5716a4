"""Fixtures: a user's folder, a bundle fitted in it, and a quick way to run commands."""

from __future__ import annotations

import tempfile

import cv2
import numpy as np
import pytest
import tiny
import torch
from command_line import ROOT, Ended, environment, fit_arguments, run_cold
from safetensors.torch import save_file
from warm_start import COMMAND, Starter

LONGEST = 300.0  # seconds that a command may take on a busy machine



@pytest.fixture(scope='session')
def run():
    """Return a function that quickly runs ``nav_monitor`` in a separate process."""
    starter = Starter(COMMAND, environment())

    def run_warm(*arguments, cwd=ROOT):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = starter.start(
                'nav_monitor', [*map(str, arguments)], environment(), out.fileno(),
                errors=err.fileno(), folder=str(cwd),
            )
            status = process.wait(LONGEST)
            for file in (out, err):
                file.seek(0)
            return Ended(status, out.read().decode(), err.read().decode())

    return run_warm


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
