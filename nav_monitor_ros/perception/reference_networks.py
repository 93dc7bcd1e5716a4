"""Small reference networks, among them those of the shipped bundles."""

from __future__ import annotations

import torch
from torch import nn


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class DigitsNet(nn.Module):
    """Handwritten digits: gray 28 x 28 to 10 classes, 128 penultimate ReLU features."""

    def __init__(self, classes: int = 10, width: int = 128, dropout: float = 0.3) -> None:
        """Build the network; ``width`` is the number of penultimate features."""
        super().__init__()
        self.conv1 = _block(1, 24)
        self.conv2 = _block(24, 24)
        self.pool1 = nn.MaxPool2d(2)
        self.conv3 = _block(24, 48)
        self.conv4 = _block(48, 48)
        self.pool2 = nn.MaxPool2d(2)
        self.conv5 = _block(48, 32)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(32 * 7 * 7, width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of images (N, 1, 28, 28)."""
        maps = self.pool1(self.conv2(self.conv1(images)))
        maps = self.pool2(self.conv4(self.conv3(maps)))
        features = self.relu(self.fc1(self.flatten(self.conv5(maps))))
        return self.fc2(self.dropout(features))


class TrafficSignNet(nn.Module):
    """German traffic signs: RGB 32 x 32 to 43 classes, 192 penultimate ReLU features."""

    def __init__(self, classes: int = 43, width: int = 192, dropout: float = 0.3) -> None:
        """Build the network; ``width`` is the number of penultimate features."""
        super().__init__()
        self.conv1 = _block(3, 32)
        self.conv2 = _block(32, 32)
        self.pool1 = nn.MaxPool2d(2)
        self.conv3 = _block(32, 64)
        self.conv4 = _block(64, 64)
        self.pool2 = nn.MaxPool2d(2)
        self.conv5 = _block(64, 96)
        self.conv6 = _block(96, 64)
        self.pool3 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * 4 * 4, width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of images (N, 3, 32, 32)."""
        maps = self.pool1(self.conv2(self.conv1(images)))
        maps = self.pool2(self.conv4(self.conv3(maps)))
        maps = self.pool3(self.conv6(self.conv5(maps)))
        features = self.relu(self.fc1(self.flatten(maps)))
        return self.fc2(self.dropout(features))


class _Residual(nn.Module):
    """Two convolutions with a shortcut, the first of stride 2; He et al., CVPR 2016."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )
        self.relu2 = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = self.relu1(self.bn1(self.conv1(maps)))
        return self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(maps))


class FashionResNet(nn.Module):
    """Clothes: gray 28 x 28 to 10 classes, 128 features after global average pooling.

    Pooled ReLU maps are positive on every image, so that an on/off pattern at 0 carries no
    information, as in every ResNet.
    """

    def __init__(self, classes: int = 10, width: int = 128) -> None:
        """Build the network; ``width`` is the number of penultimate features."""
        super().__init__()
        self.stem = _block(1, 24)
        self.stage1 = _Residual(24, 48)
        self.stage2 = _Residual(48, 96)
        self.stage3 = _Residual(96, width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of images (N, 1, 28, 28)."""
        maps = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.fc(self.flatten(self.pool(maps)))


class CorridorNet(nn.Module):
    """What is ahead of a robot: RGB 96 x 128 to 6 classes, 96 penultimate ReLU features."""

    def __init__(self, classes: int = 6, width: int = 96, dropout: float = 0.2) -> None:
        """Build the network; ``width`` is the number of penultimate features."""
        super().__init__()
        self.conv1 = _block(3, 24)
        self.pool1 = nn.MaxPool2d(4)
        self.conv2 = _block(24, 32)
        self.conv3 = _block(32, 48)
        self.pool2 = nn.MaxPool2d(2)
        self.conv4 = _block(48, 64)
        self.conv5 = _block(64, 64)
        self.pool3 = nn.MaxPool2d(2)
        self.conv6 = _block(64, 32)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(32 * 6 * 8, width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of images (N, 3, 96, 128)."""
        maps = self.conv3(self.conv2(self.pool1(self.conv1(images))))
        maps = self.conv5(self.conv4(self.pool2(maps)))
        features = self.relu(self.fc1(self.flatten(self.conv6(self.pool3(maps)))))
        return self.fc2(self.dropout(features))
