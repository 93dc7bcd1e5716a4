"""SiLU everywhere, average pooling between stages, 1024 flattened penultimate features."""

from torch import nn


class SiluNet(nn.Module):
    """Three convolution stages, then dropout and two linear layers."""

    def __init__(self, nclass: int = 10, width: int = 1024, p: float = 0.3) -> None:
        super().__init__()
        self.act = nn.SiLU()
        self.pool = nn.AvgPool2d(2)
        self.c1 = nn.Conv2d(1, 16, 3, padding=1)
        self.c2 = nn.Conv2d(16, 32, 3, padding=1)
        self.c3 = nn.Conv2d(32, 32, 3, padding=1)
        self.drop = nn.Dropout(p)
        self.hidden = nn.Linear(32 * 7 * 7, width)
        self.out = nn.Linear(width, nclass)

    def forward(self, x):
        """Return logits."""
        # One activation module is used at four places.
        x = self.pool(self.act(self.c1(x)))
        x = self.pool(self.act(self.c2(x)))
        x = self.act(self.c3(x)).flatten(1)
        x = self.act(self.hidden(self.drop(x)))
        return self.out(self.drop(x))
