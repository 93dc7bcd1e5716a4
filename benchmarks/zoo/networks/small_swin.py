"""torchvision's Swin transformer with small arguments."""

from torch import nn
from torchvision.models import SwinTransformer


def swin_for_32x32(num_classes: int) -> nn.Module:
    """Return two stages of two shifted-window blocks."""
    return SwinTransformer(
        patch_size=[4, 4], embed_dim=64, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4],
        mlp_ratio=2.0, stochastic_depth_prob=0.05, num_classes=num_classes,
    )
