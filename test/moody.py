"""Network that fails on certain images, for tests of the node."""

import builtins
import ctypes
import os
import threading
import time

import numpy as np
import torch
from torch import nn

from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess

SIDE = 8
# Gray levels of uniform images that cause a failure.
DIE, EXIT, NAN, RAISE, HANG = 249, 250, 251, 252, 253
HANG_SECONDS = 3.0
SLOW = 'MOODY_SECONDS'  # environment variable: duration of every pass over a small batch
RAISES = 'MOODY_RAISES'  # environment variable: exception of every pass over a small batch
MOODY_BATCH = 16  # largest number of images in a small batch, which may cause a failure
TWO_THREADS = 'two threads run one network'
INSIDE = {}  # id of a network -> lock that is held while the network computes


class Moody(nn.Module):
    """Network with two classes: images that are brighter on the left or on the right."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(SIDE * SIDE, 16)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(16, 2)
        columns = torch.linspace(-1, 1, SIDE).repeat(SIDE)
        with torch.no_grad():
            self.fc1.weight += torch.outer(torch.tensor([1.0, -1.0] * 8), columns)
            self.fc2.weight.copy_(torch.tensor([[-1.0, 1.0] * 8, [1.0, -1.0] * 8]))

    def forward(self, images):
        # Only small batches can fail: fitting uses larger ones, several cameras do not.
        few = len(images) <= MOODY_BATCH
        inside = INSIDE.setdefault(id(self), threading.Lock())
        if few and not inside.acquire(blocking=False):
            raise RuntimeError(TWO_THREADS)
        try:
            if few:
                time.sleep(float(os.environ.get(SLOW, 0)))
                if RAISES in os.environ:
                    raise getattr(builtins, os.environ[RAISES])('by the network')
            for row in range(len(images) if few else 0):
                images = self.react(images, row)
            return self.fc2(self.relu(self.fc1(self.flatten(images))))
        finally:
            if few:
                inside.release()

    def react(self, images, row):
        color = round(float(images[row].mean()) * 255)
        if float(images[row].std()) >= 0.001:
            return images
        if color == DIE:
            threading.Timer(0.005, end_thread, [threading.current_thread()]).start()
        if color == EXIT:
            raise SystemExit(3)
        if color == RAISE:
            raise RuntimeError('a kernel failed')
        if color == HANG:
            time.sleep(HANG_SECONDS)
        if color == NAN:
            images = images.clone()
            images[row] = float('nan')
        return images


def end_thread(thread):
    """Raise SystemExit in a thread, at its current position."""
    # The id of a thread that has ended may belong to another one by now.
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )


def images(seed, count):
    """Return noisy images, brighter on the left (class 0) or right (1), and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    ramp = np.linspace(200, 40, SIDE)
    bright = np.where(labels[:, None, None], ramp[::-1], ramp)
    noisy = bright + rng.normal(0, 15, (count, SIDE, SIDE))
    return np.clip(noisy, 0, 240).astype(np.uint8), labels


def make_bundle(folder):
    """Fit a monitor to the network and write the bundle."""
    spec = NetworkSpec('moody:Moody')
    preprocess = Preprocess(
        SIDE, SIDE, color='gray', mean=(0.0,), std=(1.0,), interpolation='area'
    )
    classifier = Classifier(Moody(), preprocess)
    bundle = fit(
        classifier, spec, from_arrays('training', *images(1, 2000)),
        from_arrays('held out', *images(2, 1000)),
        FitOptions(name='moody', class_names=('left', 'right')),
    )
    save_bundle(bundle, classifier, folder, card='# moody\n')
    return folder
