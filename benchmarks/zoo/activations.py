"""Cache what flows into every layer, for fast experiments with scores.

One .npz a network and one for each source:

- ``NAME/network.npz``: ``weight`` (C, D) and ``bias`` (C,) of the head.
- ``NAME/training.npz``, ``calibration.npz``, ``test.npz``, ``near_SOURCE.npz``, ``far_SOURCE.npz``,
  ``proxy_KIND.npz`` (made of calibration images, see benchmarks/proxies.py; half A only):
  ``labels`` (N,) or -1, ``groups`` (N,), ``logits`` (N, C), ``features`` (N, D), and for every
  convolution, linear and attention module ``mean/MODULE`` and ``std/MODULE`` (N, channels): of each
  channel of its input over positions or tokens. The input of a linear layer without positions has
  no std. Modules come in the order of the forward pass, which ``NAME/layers.json`` lists.

Values are float16 where they fit, else float32; logits and features are float32.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import proxies
import torch
from torch import Tensor, nn

from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.layers import watched_inputs
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from zoo.image_data import images_of
from zoo.ood_sources import sources_of
from zoo.registry import ZooNetwork, half_of
from zoo.training import trained

TRAINING = 6000  # largest number of training images
PROXIES = 400  # images of each kind
BATCH = 100
_CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d)
_CHANNELS_LAST = (nn.Linear, nn.MultiheadAttention)


def write_activations(network: ZooNetwork, data: Path, output: Path) -> None:
    """Write the cache of one network; files that exist are kept.

    Args:
        network: One of the registry, trained.
        data: Folder with the data sets.
        output: Folder for the caches of all networks.
    """
    torch.set_num_threads(1)
    folder = output / network.name
    folder.mkdir(parents=True, exist_ok=True)
    images = images_of(network, data)
    module = trained(network, data)
    recorder = _Recorder(module)
    classifier = Classifier(module, network.preprocess)
    order = np.random.default_rng(0).permutation(len(images.training))[:TRAINING]
    sources = {
        'training': images.training.subset(np.sort(order)),
        'calibration': images.calibration,
        'test': images.test,
        **{f'{kind}_{name}': s for name, (kind, s) in sources_of(network, data).items()},
    }
    if half_of(network.name) == 'A':
        for kind in (*proxies.CORRUPTIONS, *proxies.DOMAINS):
            if not (folder / f'proxy_{kind}.npz').exists():
                sources[f'proxy_{kind}'] = _proxies(kind, classifier, images.calibration)
    for name, source in sources.items():
        if not (folder / f'{name}.npz').exists():
            _write(folder / f'{name}.npz', _record(classifier, recorder, source))
    head = classifier.head
    if head is not None:
        _write(folder / 'network.npz', {'weight': head.weight, 'bias': head.bias})
    described = {
        'network': network.name, 'kind': network.kind, 'half': half_of(network.name),
        'layers': recorder.types, 'class_names': images.class_names,
        'watched': watched_inputs(classifier.inputs),
    }
    (folder / 'layers.json').write_text(json.dumps(described, indent=1) + '\n')
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f'{network.name}: {size / 2**20:.0f} MiB in {folder}', flush=True)


def _proxies(kind: str, classifier: Classifier, held_out: ImageSource) -> ImageSource:
    """Return out-of-distribution images of one kind, made of in-distribution ones."""
    resized = classifier.preprocess.resized
    pixels = np.stack([resized(held_out.image(i)) for i in range(len(held_out))])
    assert held_out.own_labels is not None
    made = proxies.make(kind, pixels, held_out.own_labels, PROXIES, np.random.default_rng(1))
    return from_arrays(kind, made[..., 0] if made.shape[3] == 1 else made)


class _Recorder:
    """Keeps the channel statistics of a network's modules' inputs, of the latest pass."""

    def __init__(self, module: nn.Module) -> None:
        self.seen: dict[str, tuple[Tensor, Tensor | None]] = {}  # module -> mean and std
        self.types: dict[str, str] = {}  # module -> its type, in the order of the forward pass
        for name, part in module.named_modules():
            attention = 'Attention' in type(part).__name__
            if isinstance(part, _CHANNELS_FIRST + _CHANNELS_LAST) or attention:
                part.register_forward_pre_hook(self._hook(name), with_kwargs=True)

    def _hook(self, name: str) -> Any:
        def hook(part: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            values = inputs[0] if inputs else named['query']
            self.types.setdefault(name, type(part).__name__)
            if values.ndim == 2:
                self.seen[name] = values.clone(), None
                return
            channel = 1 if isinstance(part, _CHANNELS_FIRST) else values.ndim - 1
            positions = [axis for axis in range(1, values.ndim) if axis != channel]
            std, mean = torch.std_mean(values.float(), dim=positions, correction=0)
            self.seen[name] = mean, std

        return hook


def _record(
    classifier: Classifier, recorder: _Recorder, source: ImageSource
) -> dict[str, np.ndarray]:
    """Return all arrays of one source."""
    outputs: list[Activations] = []
    means: dict[str, list[np.ndarray]] = {}
    stds: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(source), BATCH):
        rows = range(start, min(start + BATCH, len(source)))
        pixels = np.stack([classifier.preprocess.apply(source.image(i)) for i in rows])
        recorder.seen.clear()
        outputs.append(classifier(pixels))
        for name, (mean, std) in recorder.seen.items():
            means.setdefault(name, []).append(_small(mean))
            if std is not None:
                stds.setdefault(name, []).append(_small(std))
    ran = Activations.concatenate(outputs)
    labels = np.full(len(source), -1) if source.own_labels is None else source.own_labels
    groups = np.arange(len(source)) if source.groups is None else source.groups
    return {
        'labels': labels, 'groups': groups, 'logits': ran.logits, 'features': ran.features,
        **{f'mean/{name}': np.concatenate(parts) for name, parts in means.items()},
        **{f'std/{name}': np.concatenate(parts) for name, parts in stds.items()},
    }


def _small(values: Tensor) -> np.ndarray:
    """Return float16, or float32 where it would overflow."""
    fits = float(values.abs().max()) < 6e4
    return values.numpy().astype(np.float16 if fits else np.float32)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    partial = path.with_suffix('.partial')
    with partial.open('wb') as file:
        np.savez(file, **arrays)
    os.replace(partial, path)
