"""A small network in the manner of ConvNeXt: depthwise 5 x 5, layer norm, GELU, layer scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelsFirstNorm(nn.LayerNorm):
    """Layer norm over channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    """Depthwise convolution, then a two-layer perceptron on channels last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 3 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(3 * dim, dim)
        self.gamma = nn.Parameter(0.1 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class SmallConvNeXt(nn.Module):
    """Patch stem, stages, pooled, normed and classified."""

    def __init__(
        self, num_classes: int, dims: tuple[int, ...] = (64, 128),
        depths: tuple[int, ...] = (2, 3),
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Conv2d(3, dims[0], 4, 4), ChannelsFirstNorm(dims[0])]
        for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            if index:
                before = dims[index - 1]
                stages += [ChannelsFirstNorm(before), nn.Conv2d(before, dim, 2, 2)]
            stages += [CNBlock(dim) for _ in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.norm(self.stages(x).mean([-2, -1])))
