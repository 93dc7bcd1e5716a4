"""Network that is small enough to be fitted quickly, and images that it classifies."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess

SIDE = 12  # pixels
CLASSES = ('left', 'middle', 'right')  # position of the bright bar
WIDTH = 24  # neurons of the penultimate layer
SPEC = NetworkSpec('tiny:Bars')
PREPROCESS = Preprocess(SIDE, SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Bars(nn.Module):
    """Network for RGB images of 12 x 12 pixels: a bright bar on the left, middle or right."""

    def __init__(self, classes: int = 3, width: int = WIDTH) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(5 * 6 * 6, width)
        self.relu2 = nn.ReLU()
        self.fc2 = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.relu1(self.conv(images)))
        return self.fc2(self.relu2(self.fc1(self.flatten(maps))))


def images(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images, uint8 (count, 12, 12, 3), and their classes, int64 (count,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), count)
    pixels = rng.normal(70, 20, (count, SIDE, SIDE, 3))
    for pixel, label in zip(pixels, labels, strict=True):
        pixel[:, 4 * label : 4 * label + 4] += 110
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def strange(seed: int, count: int) -> np.ndarray:
    """Return images of no class: horizontal instead of vertical bright bars."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(70, 20, (count, SIDE, SIDE, 3))
    pixels[:, 4:8] += 110
    return np.clip(pixels, 0, 255).astype(np.uint8)


def centred(logits) -> np.ndarray:
    """Return logits (..., C) as they are handed out: their mean is 0."""
    logits = np.asarray(logits, np.float64)
    return logits - logits.mean(axis=-1, keepdims=True)


def unit_of(weight) -> float:
    """Return the factor on the features of a network with these weights of the head, (C, D)."""
    rows = centred(np.asarray(weight).T).T
    return float(np.sqrt(np.square(rows).sum(axis=1).mean()))


def source(seed: int, count: int, **options) -> ImageSource:
    return from_arrays(f'tiny-{seed}', *images(seed, count), **options)


@lru_cache(maxsize=1)
def _weights() -> dict[str, torch.Tensor]:
    """Return random features with a least-squares head, which needs no optimiser."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Bars().eval()
    pixels, labels = images(100, 400)
    batch = torch.from_numpy(np.stack([PREPROCESS.apply(image) for image in pixels]))
    with torch.no_grad():
        features = nn.Sequential(*list(network.children())[:-1])(batch).numpy()
        extended = np.column_stack([features, np.ones(len(features))])
        solution, *_ = np.linalg.lstsq(extended, 8.0 * np.eye(len(CLASSES))[labels], rcond=None)
        network.fc2.weight.copy_(torch.from_numpy(solution[:-1].T))
        network.fc2.bias.copy_(torch.from_numpy(solution[-1]))
    return network.state_dict()


def network() -> Bars:
    """Return the trained network."""
    trained = Bars()
    trained.load_state_dict(_weights())
    return trained.eval()


def classifier(layer: str = 'penultimate') -> Classifier:
    return Classifier(network(), PREPROCESS, layer=layer)


def fitted(running: RunningNetwork, network: NetworkSpec = SPEC, **options) -> Bundle:
    """Fit a monitor quickly: 400 training images and 200 calibration images."""
    options = {'name': 'tiny', 'false_alarm_rate': 0.05, 'class_names': CLASSES, **options}
    return fit(running, network, source(1, 400), source(2, 200), FitOptions(**options))
