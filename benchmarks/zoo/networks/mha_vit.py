"""A vision transformer with nn.MultiheadAttention and early convolutions for the patches."""

import torch
import torch.nn as nn


class EncoderBlock(nn.Module):
    """Pre-norm encoder block."""

    def __init__(self, embed_dim, num_heads, mlp_dim, dropout):
        super().__init__()
        self.ln_1 = nn.LayerNorm(embed_dim)
        self.self_attention = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(embed_dim)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, mlp_dim), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(mlp_dim, embed_dim), nn.Dropout(dropout),
        )

    def forward(self, inputs):
        """Return tokens of the same shape."""
        x = self.ln_1(inputs)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x) + inputs
        return x + self.mlp(self.ln_2(x))


class ViT(nn.Module):
    """Vision transformer with a class token."""

    def __init__(self, num_classes, image_size=32, embed_dim=128, depth=4, num_heads=4,
                 mlp_dim=256, dropout=0.0):
        super().__init__()
        self.conv_proj = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.GELU(),
            nn.Conv2d(32, 64, 3, 2, 1), nn.GELU(),
            nn.Conv2d(64, embed_dim, 2, 2),
        )
        seq_length = (image_size // 8) ** 2 + 1
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, seq_length, embed_dim).normal_(std=0.02))
        self.blocks = nn.Sequential(
            *[EncoderBlock(embed_dim, num_heads, mlp_dim, dropout) for _ in range(depth)]
        )
        self.ln = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.blocks(x + self.pos_embedding)
        return self.head(self.ln(x)[:, 0])
