"""An encoder with a linear embedding and a linear head: nothing rectifies the penultimate layer."""

from __future__ import annotations

from torch import Tensor, nn


class Encoder(nn.Module):
    """Images to embeddings of any sign."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer1 = self._stage(3, 24)
        self.layer2 = self._stage(24, 48)
        self.layer3 = self._stage(48, 96)
        self.pool = nn.AdaptiveMaxPool2d(2)
        self.project = nn.Linear(96 * 4, dim)

    @staticmethod
    def _stage(inp: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inp, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings, (N, dim)."""
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.project(self.pool(x).flatten(1))


class EmbeddingClassifier(nn.Module):
    """Encoder and a head without bias."""

    def __init__(self, n_classes: int, dim: int = 64) -> None:
        super().__init__()
        self.encoder = Encoder(dim)
        self.fc = nn.Linear(dim, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.fc(self.encoder(x))
