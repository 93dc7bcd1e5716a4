"""Untrained networks with fitted monitors, which suffice for timing complete nodes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from nav_monitor_ros.benchmark.result import Progress
from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import configure_for_scores
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.fitting.engine_export import NoEngineApproved, export
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS, FitOptions
from nav_monitor_ros.perception.network.backends import BACKENDS, TORCH, installed
from nav_monitor_ros.perception.network.canonical_form import own_form
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess

SIDE = 224  # pixels of the network's input
CAMERA = (480, 640)  # rows and columns of the camera's image
TRAINING = 3  # images of each class
CALIBRATION = 90  # images in all; 5 % false alarms need 89
_COARSE = (6, 8)  # patches that a class's picture is made of
_SMALL = (48, 64)  # rows and columns of pictures to fit to: reading them is not timed
_NOISE = 2.0  # gray levels by which the images of one class differ


def write_bundle(
    folder: Path, *, classes: int = 43, progress: Progress = lambda what, done, total: None
) -> tuple[str, ...]:
    """Write the bundle and, as ``training.npz`` (``x``, ``y``) beside it, what it was fitted to.

    The layers' weights are random; the last layer tells the classes' pictures apart by their
    nearest mean, so that each class has patterns of its own.

    Args:
        folder: Folder for the bundle, which must not exist yet.
        classes: Number of classes of the network.
        progress: Callback for the progress of the work.

    Returns:
        The backends that may run it here: torch, and those for which it could be exported.
    """
    torch.manual_seed(0)
    spec = NetworkSpec('torchvision:resnet18', {'num_classes': classes})
    network = spec.build([])
    classifier = Classifier(network, Preprocess(SIDE, SIDE), threads=1)
    pictures = camera_images(classes, seed=0)
    batch = np.stack([classifier.preprocess.apply(picture) for picture in pictures])
    means = own_form(classifier(batch), classifier.unit).features
    centred = torch.from_numpy(means - means.mean(0))
    head = network.get_submodule('fc')
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.copy_(centred)
        head.bias.copy_(-(centred @ torch.from_numpy(means + means.mean(0)).T).diag() / 2)
    labels = np.tile(np.arange(classes), TRAINING)
    pixels = np.stack([_variant(pictures[label], seed) for seed, label in enumerate(labels)])
    held_out = np.stack([
        _variant(pictures[seed % classes], len(labels) + seed) for seed in range(CALIBRATION)
    ])
    # Fitted by a classifier that knows the head's weights as they are now.
    classifier = Classifier(network, Preprocess(SIDE, SIDE), threads=1)
    calibration = from_arrays('calibration', held_out)
    bundle = fit(
        classifier, spec, from_arrays('training', pixels, labels), calibration,
        FitOptions(
            name=folder.name, false_alarm_rate=0.05,
            scores={name: {} for name in (*FUSED_MEMBERS, 'gaussian')},  # what a verdict needs
        ),
        progress=progress,
    )
    np.savez(folder.parent / 'training.npz', x=pixels, y=labels)
    save_bundle(bundle, classifier, folder, card='A network for timing only; nobody trained it.\n')
    others = [backend for backend in BACKENDS if backend != TORCH and installed(backend)]
    if not others:
        return (TORCH,)
    configure_for_scores(classifier, bundle.scores.values())
    try:
        engines = export(
            load_bundle(folder), classifier, calibration, others, folder, progress=progress)
    except NoEngineApproved:
        return (TORCH,)
    allowed = {approval.engine.backend for approval in engines.approvals.values()
               if not approval.refused}
    return (TORCH, *(backend for backend in others if backend in allowed))


def fitted_bundle(
    folder: Path, network: str, *, classes: int = 10, threads: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Bundle, ImageSource]:
    """Fit the default scores to a network with random weights, with as few images as possible.

    Args:
        folder: Folder for the bundle, which must not exist yet.
        network: Name of a torchvision model.
        classes: Number of classes of the network.
        threads: Threads of torch; 0: torch chooses.
        progress: Callback for the progress of the work.

    Returns:
        The bundle, and the images that it was calibrated on.

    Raises:
        NavMonitorError: torchvision has no such network.
    """
    torch.manual_seed(0)
    spec = NetworkSpec(f'torchvision:{network}', {'num_classes': classes})
    classifier = Classifier(spec.build([]), Preprocess(SIDE, SIDE), threads=threads)
    data, calibration = (
        from_arrays(name, pictures(count, seed, _SMALL), np.arange(count) % classes)
        for name, count, seed in (('data', 160, 1), ('calibration', 160, 2))
    )
    options = FitOptions(
        name=network, scores={name: {} for name in FUSED_MEMBERS}, false_alarm_rate=0.1)
    fitted = fit(classifier, spec, data, calibration, options, progress=progress)
    save_bundle(fitted, classifier, folder, card='')
    return load_bundle(folder), calibration


def pictures(count: int, seed: int, size: tuple[int, int] = CAMERA) -> np.ndarray:
    """Return camera-like images, smooth with a little noise, uint8 (N, H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 12, 16, 3), np.uint8)
    return np.stack([
        cv2.add(
            cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC),
            rng.integers(0, 12, (*size, 3), np.uint8),
        ) for one in coarse
    ])


def camera_images(count: int, *, seed: int) -> np.ndarray:
    """Return different images of coloured patches with soft edges, uint8 (count, H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, *_COARSE)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, CAMERA, mode='bicubic').clamp(0, 255)
    return smooth.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def _variant(picture: np.ndarray, seed: int) -> np.ndarray:
    """Return a noisy version of a picture, in the size of the network's input."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(seed).normal(0, _NOISE, small.shape)
    return np.clip(small + noise, 0, 255).astype(np.uint8)
