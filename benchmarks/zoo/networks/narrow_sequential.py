"""One nested Sequential with hard-swish and a penultimate layer of 16 units."""

from collections import OrderedDict

from torch import nn


def conv_bn_act(inp: int, oup: int, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and hard-swish."""
    return nn.Sequential(
        nn.Conv2d(inp, oup, 3, stride, 1, bias=False), nn.BatchNorm2d(oup), nn.Hardswish()
    )


def build_model(n_out: int = 10, embedding: int = 16) -> nn.Sequential:
    """Return the network, (N, 1, 28, 28) to (N, n_out)."""
    return nn.Sequential(OrderedDict([
        ('stem', conv_bn_act(1, 16)),
        ('down1', conv_bn_act(16, 32, 2)),
        ('body1', conv_bn_act(32, 32)),
        ('down2', conv_bn_act(32, 48, 2)),
        ('body2', conv_bn_act(48, 48)),
        ('flatten', nn.Flatten()),
        ('embed', nn.Sequential(nn.Linear(48 * 7 * 7, embedding), nn.Hardswish())),
        ('classifier', nn.Linear(embedding, n_out)),
    ]))
