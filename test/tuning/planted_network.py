"""Network with units of known selectivity, and recordings of it."""


import numpy as np
import torch
from torch import nn

from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.tuning.recorder import (
    TuningOptions,
    TuningRecorder,
)
from nav_monitor_ros.tuning.selectivity import (
    selectivity,
)
from nav_monitor_ros.tuning.statistics import (
    TRUE,
)

CLASSES = 6
PLANTED, UNIFORM, DEAD, SILENCED = range(4)  # units of the planted network's penultimate layer


class Planted(nn.Module):
    """Network that reads the class from the first pixel, and noise from the second."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 + CLASSES, CLASSES, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.cat([torch.zeros(CLASSES, 4), torch.eye(CLASSES)], dim=1))

    def forward(self, images):
        pixels = self.flatten(images) * 255
        read = ((pixels[:, :1] - torch.arange(CLASSES) * 40).abs() < 0.5).float()
        units = torch.stack(
            [read[:, 3] * 2, pixels[:, 1] / 255, pixels[:, 0] * 0, 1 - read[:, 1]], dim=1
        )
        return self.fc(torch.cat([units, read], dim=1))


PREPROCESS = Preprocess(4, 4, color='gray', mean=(0.0,), std=(1.0,), interpolation='area')


def planted_images(count=900, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = rng.integers(0, 256, (count, 4, 4)).astype(np.uint8)
    pixels[:, 0, 0] = labels * 40
    return from_arrays('planted', pixels, labels)


def names(count=CLASSES):
    return tuple(f'class {i}' for i in range(count))


def recorded(folder, classifier, source, options=TuningOptions(), checkpoints=('only',)):  # noqa: B008
    recorder = TuningRecorder(
        folder, classifier, source, names(classifier.classes), options, network='a network'
    )
    for name in checkpoints:
        recorder.record(name)
    return recorder.recording


def measured(seen, place, kind=TRUE, permutations=100):
    highest = int(seen.images.max()) + 1
    labels = np.full(highest, -1)
    labels[seen.images] = seen.labels[kind]
    return selectivity(
        seen.layers[place], kind, labels, seen.class_counts(kind, CLASSES), permutations
    )
