"""Augmentation of whole batches on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def augmented(batch: Tensor, kind: str, rng: torch.Generator) -> Tensor:
    """Return a batch, changed at random.

    Args:
        batch: Normalised images, float32 (N, C, H, W).
        kind: ``none``, ``flip_crop`` (mirror, shift by up to an eighth) or ``affine`` (rotate,
            shift, zoom, brighten).
        rng: Source of chance.
    """
    if kind == 'none':
        return batch
    return {'flip_crop': _flip_crop, 'affine': _affine}[kind](batch, rng)


def _flip_crop(batch: Tensor, rng: torch.Generator) -> Tensor:
    count, _, height, width = batch.shape
    mirrored = torch.rand(count, generator=rng) < 0.5
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    margin = height // 8
    padded = functional.pad(batch, (margin,) * 4, mode='reflect')
    top, left = torch.randint(0, 2 * margin + 1, (2, count), generator=rng)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    images = torch.arange(count)[:, None, None, None]
    channels = torch.arange(batch.shape[1])[None, :, None, None]
    return padded[images, channels, rows, columns]


def _affine(batch: Tensor, rng: torch.Generator) -> Tensor:
    count = len(batch)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=rng)

    angle, zoom = uniform(-1, 1) * math.radians(12), uniform(0.87, 1.13)
    matrix = torch.stack([
        torch.stack([zoom * angle.cos(), -zoom * angle.sin(), uniform(-0.16, 0.16)], 1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), uniform(-0.16, 0.16)], 1),
    ], 1)
    grid = functional.affine_grid(matrix, list(batch.shape), align_corners=False)
    moved = functional.grid_sample(batch, grid, padding_mode='border', align_corners=False)
    if batch.shape[1] == 1:
        return moved
    gain, offset = uniform(0.7, 1.3), uniform(-0.3, 0.3)
    return moved * gain[:, None, None, None] + offset[:, None, None, None]
