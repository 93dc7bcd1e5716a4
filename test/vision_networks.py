"""Small networks of the architectures of torchvision, with random weights."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from nav_monitor_ros.perception.preprocess import Preprocess

CLASSES = 5


def with_random_head(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode whose weights all have an effect."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if name.endswith('layer_scale'):
                parameter.fill_(0.5)
            elif not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
    return network.eval()


def vision_transformer(**options) -> nn.Module:
    """Return a transformer for 32 x 32 pixels: 4 x 4 patches and a class token."""
    torch.manual_seed(0)
    return with_random_head(VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24,
        num_classes=CLASSES, **options,
    ))


def swin_transformer(**options) -> nn.Module:
    """Return a transformer with shifted windows; 32 x 48 pixels make 16 x 24 and 8 x 12 maps."""
    torch.manual_seed(0)
    return with_random_head(SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=[4, 4],
        stochastic_depth_prob=0.0, num_classes=CLASSES, **options,
    ))


def convnext() -> nn.Module:
    """Return a convolutional network whose blocks have their channels last inside."""
    torch.manual_seed(0)
    return with_random_head(ConvNeXt(
        [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], num_classes=CLASSES,
    ))


def preprocess(height: int = 32, width: int = 32) -> Preprocess:
    """Return the preprocessing for an image size."""
    return Preprocess(height, width)
