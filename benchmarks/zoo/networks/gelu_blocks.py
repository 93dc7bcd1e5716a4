"""Residual blocks with group norm and GELU before the convolutions, globally pooled."""

from __future__ import annotations

import torch
from torch import nn


class PreActBlock(nn.Module):
    """Pre-activation residual block."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(4, cin), nn.GELU(),
            nn.Conv2d(cin, cout, 3, stride, 1, bias=False),
            nn.GroupNorm(4, cout), nn.GELU(),
            nn.Conv2d(cout, cout, 3, 1, 1, bias=False),
        )
        self.skip = nn.Identity() if cin == cout and stride == 1 else nn.Conv2d(
            cin, cout, 1, stride, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of the body and the shortcut."""
        return self.body(x) + self.skip(x)


class GeluResNet(nn.Module):
    """Stem, four blocks, a final norm and activation, the mean over positions."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (16, 16, 32, 64)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, 1, 1)
        self.blocks = nn.ModuleList()
        previous = widths[0]
        for index, width in enumerate(widths):
            self.blocks.append(PreActBlock(previous, width, 1 if index == 0 else 2))
            previous = width
        self.final = nn.Sequential(nn.GroupNorm(4, previous), nn.GELU())
        self.fc = nn.Linear(previous, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(torch.mean(self.final(x), dim=(2, 3)))
