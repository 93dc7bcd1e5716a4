"""Inverted residuals with depthwise convolutions and squeeze-and-excitation, as in MobileNetV3."""

from __future__ import annotations

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Channel weights from the channel means."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.avg = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted maps."""
        return x * self.gate(self.fc2(self.relu(self.fc1(self.avg(x)))))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, weigh, project."""

    def __init__(self, inp: int, oup: int, stride: int, expand: int, act: type[nn.Module]) -> None:
        super().__init__()
        hidden = inp * expand
        self.use_res = stride == 1 and inp == oup
        self.conv = nn.Sequential(
            nn.Conv2d(inp, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), act(),
            SqueezeExcite(hidden),
            nn.Conv2d(hidden, oup, 1, bias=False), nn.BatchNorm2d(oup),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, with a shortcut where shapes allow."""
        return x + self.conv(x) if self.use_res else self.conv(x)


def mobile_se(num_classes: int, last: int = 160) -> nn.Sequential:
    """Return the network for 32 x 32 colour images: ReLU6 first, hard-swish later."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        InvertedResidual(16, 24, 2, 3, nn.ReLU6),
        InvertedResidual(24, 24, 1, 3, nn.ReLU6),
        InvertedResidual(24, 40, 2, 3, nn.Hardswish),
        InvertedResidual(40, 40, 1, 3, nn.Hardswish),
        nn.Conv2d(40, last, 1, bias=False), nn.BatchNorm2d(last), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(0.1), nn.Linear(last, num_classes),
    )
