"""VGG from a list of widths: batch norm, in-place ReLU, global average or flattened."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def make_layers(cfg: list[Any], in_channels: int) -> nn.Sequential:
    """Return the convolutions; 'M' is a max pooling."""
    layers: list[nn.Module] = []
    for v in cfg:
        if v == 'M':
            layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
        else:
            conv2d = nn.Conv2d(in_channels, v, kernel_size=3, padding=1)
            layers += [conv2d, nn.BatchNorm2d(v), nn.ReLU(inplace=True)]
            in_channels = v
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Features, pooling and classifier.

    Args:
        cfg: Widths and poolings.
        num_classes: Number of outputs.
        in_channels: Channels of the images.
        hidden: Units of the hidden linear layer; 0 for none, after global average pooling.
        spatial: Side of the last map.
    """

    def __init__(
        self, cfg: list[Any], num_classes: int, in_channels: int = 3, hidden: int = 0,
        spatial: int = 1,
    ) -> None:
        super().__init__()
        self.features = make_layers(cfg, in_channels)
        last = [v for v in cfg if v != 'M'][-1]
        if hidden:
            self.avgpool: nn.Module = nn.Identity()
            self.classifier = nn.Sequential(
                nn.Dropout(0.4), nn.Linear(last * spatial**2, hidden), nn.ReLU(True),
                nn.Dropout(0.4), nn.Linear(hidden, num_classes),
            )
        else:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Linear(last, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.avgpool(self.features(x))
        return self.classifier(x.reshape(x.shape[0], -1))


def fashion_vgg(num_classes: int) -> VGG:
    """Return a small one for 28 x 28 gray images, globally pooled."""
    return VGG([16, 16, 'M', 32, 32, 'M', 64, 96], num_classes, in_channels=1)


def cifar_vgg(num_classes: int) -> VGG:
    """Return one for 32 x 32 colour images, with a hidden layer and dropout."""
    return VGG(
        [32, 'M', 64, 64, 'M', 128, 128, 'M', 128, 'M'], num_classes, hidden=256, spatial=2
    )
