"""A multilayer perceptron with batch norm, LeakyReLU and dropout, and a head without bias."""

import torch


class MLP(torch.nn.Module):
    """Pixels to logits through a list of hidden sizes."""

    def __init__(self, sizes=(784, 512, 256, 128), classes=10, drop=0.2):
        super().__init__()
        mods = [torch.nn.Flatten()]
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            mods.append(torch.nn.Linear(a, b, bias=False))
            mods.append(torch.nn.BatchNorm1d(b))
            mods.append(torch.nn.LeakyReLU(0.1))
            mods.append(torch.nn.Dropout(drop))
        self.net = torch.nn.Sequential(*mods)
        self.head = torch.nn.Linear(sizes[-1], classes, bias=False)

    def forward(self, x):
        """Return logits."""
        return self.head(self.net(x))
