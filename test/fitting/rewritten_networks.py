"""Small random networks, and the same functions written in other ways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tiny
import torch
from torch import nn
from torch.ao.nn.intrinsic import ConvReLU2d
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLASSES = len(tiny.CLASSES)
_MODULES: dict[str, Callable[..., nn.Module]] = {
    'relu': nn.ReLU, 'leaky_relu': nn.LeakyReLU, 'gelu': nn.GELU, 'silu': nn.SiLU,
}
HOMOGENEOUS = {'relu', 'leaky_relu'}  # f(s x) = s f(x) for s > 0
Layers = dict[str, nn.Module]


@dataclass(frozen=True)
class Plan:
    """Structure of a random network."""

    seed: int
    activation: str = 'relu'
    normalised: bool = True  # batch norm after each convolution
    bias: bool = True  # of convolutions without batch norm and of linear layers
    residual: bool = False
    pooled: bool = False  # global average pooling before the head, instead of flattening
    hidden: int = 24  # width of a hidden linear layer; 0 without one
    dropout: bool = False

    @property
    def homogeneous(self) -> bool:
        """Return whether factors can be moved through the activations."""
        return self.activation in HOMOGENEOUS


def plans(count: int) -> list[Plan]:
    """Return random structures; every choice occurs."""
    rng = np.random.default_rng(5)
    activations = ('relu', 'gelu', 'relu', 'silu', 'relu', 'leaky_relu')
    found = []
    for number in range(count):
        pooled = bool(number % 3 == 1)
        found.append(Plan(
            seed=number, activation=activations[number % len(activations)],
            normalised=bool(number % 2), bias=bool(rng.random() < 0.7),
            residual=bool(rng.random() < 0.4), pooled=pooled,
            hidden=0 if pooled and rng.random() < 0.5 else int(rng.integers(16, 32)),
            dropout=bool(rng.random() < 0.4),
        ))
    return found


def layers_of(plan: Plan) -> Layers:
    """Return the layers with weights, with a head that tells the classes of ``tiny`` apart."""
    torch.manual_seed(plan.seed)
    layers: Layers = {}
    inputs = 3
    for stage, outputs in enumerate((8, 12)):
        for number, width in ((1, inputs), (2, outputs)):
            own_bias = plan.bias and not plan.normalised
            layers[f'{stage}.conv{number}'] = nn.Conv2d(width, outputs, 3, padding=1, bias=own_bias)
            layers[f'{stage}.norm{number}'] = _norm(outputs) if plan.normalised else nn.Identity()
        if plan.residual:
            layers[f'{stage}.shortcut'] = nn.Conv2d(inputs, outputs, 1, bias=plan.bias)
        inputs = outputs
    width = inputs * (1 if plan.pooled else 9)
    if plan.hidden:
        layers['hidden'] = nn.Linear(width, plan.hidden, bias=plan.bias)
        width = plan.hidden
    layers['head'] = nn.Linear(width, CLASSES, bias=plan.bias)
    if plan.normalised:
        _measure_norms(Blocks(plan, layers))
    layers = {name: layer.eval() for name, layer in layers.items()}
    _train_head(Blocks(plan, layers), layers['head'])
    return layers


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=None)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.3)
    return norm


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = tiny.images(100, 300)
    batch = np.stack([tiny.PREPROCESS.apply(image) for image in pixels])
    return torch.from_numpy(batch), torch.from_numpy(labels)


def _measure_norms(network: nn.Module) -> None:
    """Set the means and variances of the batch norms."""
    with torch.no_grad():
        network.train()(_batch()[0])


def _train_head(network: nn.Module, head: nn.Module) -> None:
    """Set a head by least squares, without an optimiser."""
    batch, labels = _batch()
    entering = []
    with head.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])):
        with torch.no_grad():
            network(batch)
    features = entering[0].double()
    columns = [features]
    if head.bias is not None:
        columns.append(torch.ones(len(features), 1))
    extended = torch.cat(columns, 1)
    ridge = 1e-3 * extended.square().mean() * len(features) * torch.eye(extended.shape[1])
    targets = 8 * torch.eye(CLASSES, dtype=torch.float64)[labels]
    solution = torch.linalg.solve(extended.T @ extended + ridge, extended.T @ targets)
    with torch.no_grad():
        head.weight.copy_(solution[: features.shape[1]].T)
        if head.bias is not None:
            head.bias.copy_(solution[-1])


class _Stage(nn.Module):
    """Two convolutions, with a shortcut if there is one."""

    def __init__(self, layers: Layers, stage: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        for name in ('conv1', 'norm1', 'conv2', 'norm2', 'shortcut'):
            setattr(self, name, layers.get(f'{stage}.{name}'))
        self.activation1, self.activation2 = activation(), activation()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = self.activation1(self.norm1(self.conv1(maps)))
        inner = self.norm2(self.conv2(inner))
        return self.activation2(inner if self.shortcut is None else inner + self.shortcut(maps))


class Blocks(nn.Sequential):
    """The network of modules: blocks in a sequence."""

    def __init__(self, plan: Plan, layers: Layers, *, inplace: bool = False) -> None:
        made = _MODULES[plan.activation]

        def activation() -> nn.Module:
            return made(inplace=True) if inplace else made()

        stages = [module for stage in (0, 1)
                  for module in (_Stage(layers, stage, activation), nn.MaxPool2d(2))]
        pool = [nn.AdaptiveAvgPool2d(1)] if plan.pooled else []
        hidden = [layers['hidden'], activation()] if plan.hidden else []
        dropout = [nn.Dropout(0.3)] if plan.dropout else []
        super().__init__(*stages, *pool, nn.Flatten(), *hidden, *dropout, layers['head'])


class Parts(nn.Module):
    """The network without blocks, its activations and pooling as functions."""

    def __init__(self, plan: Plan, layers: Layers, *, inplace: bool = False) -> None:
        super().__init__()
        self.plan, self.names = plan, {name: f'part_{n}' for n, name in enumerate(layers)}
        for name, layer in layers.items():
            setattr(self, self.names[name], layer)
        self.dropout = nn.Dropout(0.3) if plan.dropout else None
        self.inplace = inplace

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = images
        for stage in (0, 1):
            inner = self._active(self._run(f'{stage}.norm1', self._run(f'{stage}.conv1', maps)))
            inner = self._run(f'{stage}.norm2', self._run(f'{stage}.conv2', inner))
            if self.plan.residual:
                inner = inner + self._run(f'{stage}.shortcut', maps)
            maps = functional.max_pool2d(self._active(inner), 2)
        features = (maps.mean((2, 3)) if self.plan.pooled else maps.flatten(1))
        if self.plan.hidden:
            features = self._active(self._run('hidden', features))
        return self._run('head', features if self.dropout is None else self.dropout(features))

    def _run(self, name: str, values: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.names[name])(values)

    def _active(self, values: torch.Tensor) -> torch.Tensor:
        if self.inplace:
            return getattr(functional, self.plan.activation)(values, inplace=True)
        return getattr(functional, self.plan.activation)(values)


# Rewritings of the layers.


def with_constant(layers: Layers) -> Layers:
    """Add one row to all rows of the head's weights, and one number to its biases."""
    layers = copy.deepcopy(layers)
    head = layers['head']
    with torch.no_grad():
        spread = head.weight.std()
        head.weight += 3 * spread * torch.randn(head.weight.shape[1])
        if head.bias is not None:
            head.bias -= 40
    return layers


def with_factor(layers: Layers, plan: Plan, factor: float = 13.7) -> Layers:
    """Move a positive factor from layers into those that follow."""
    layers = copy.deepcopy(layers)
    with torch.no_grad():
        _scale(layers, plan, '0.conv1', factor)
        layers['0.conv2'].weight /= factor
        if plan.hidden:
            for values in layers['hidden'].parameters():
                values *= factor
        else:
            _scale(layers, plan, '1.conv2', factor)
            if plan.residual:
                for values in layers['1.shortcut'].parameters():
                    values *= factor
        layers['head'].weight /= factor
    return layers


def _scale(layers: Layers, plan: Plan, conv: str, factor: float) -> None:
    layer = layers[conv.replace('conv', 'norm')] if plan.normalised else layers[conv]
    for values in layer.parameters():
        values *= factor


def folded(layers: Layers) -> Layers:
    """Fold batch norms into the convolutions before them."""
    layers = copy.deepcopy(layers)
    for name in [name for name, layer in layers.items() if isinstance(layer, nn.BatchNorm2d)]:
        conv = name.replace('norm', 'conv')
        layers[conv] = fuse_conv_bn_eval(layers[conv], layers[name])
        layers[name] = nn.Identity()
    return layers


def fused_relu(layers: Layers, plan: Plan) -> nn.Module:
    """Return the network with the first convolution of each stage fused with its ReLU."""
    layers = folded(layers)
    network = Blocks(plan, layers)
    for stage in (network[0], network[2]):
        stage.conv1 = ConvReLU2d(stage.conv1, nn.ReLU())
        stage.activation1 = nn.Identity()
    return network


def renamed(network: nn.Sequential) -> nn.Sequential:
    """Return a sequence whose modules have other names, two of them within another one."""
    first, second, *others = list(network)
    sequence = nn.Sequential()
    sequence.add_module('stem', nn.Sequential(first, second))
    for number, module in enumerate(others):
        sequence.add_module(f'zz{9 - number}', module)
    return sequence


# A vision transformer.


class Attention(nn.Module):
    """Self-attention by separate linear layers, equal to ``nn.MultiheadAttention``."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, width = packed.num_heads, packed.embed_dim
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        with torch.no_grad():
            for part, layer in enumerate((self.query, self.key, self.value)):
                layer.weight.copy_(packed.in_proj_weight[part * width : (part + 1) * width])
                layer.bias.copy_(packed.in_proj_bias[part * width : (part + 1) * width])
            self.out.load_state_dict(packed.out_proj.state_dict())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        split = [layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
                 for layer in (self.query, self.key, self.value)]
        mixed = functional.scaled_dot_product_attention(*split)
        return self.out(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention: nn.Module = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(tokens)
        if isinstance(self.attention, nn.MultiheadAttention):
            tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        else:
            tokens = tokens + self.attention(normed)
        return tokens + self.mlp(self.norm2(tokens))


class Vit(nn.Module):
    """A vision transformer of three blocks on patches of 3 x 3 pixels."""

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.patches = nn.Conv2d(3, width, 3, stride=3)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(0.3 * torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)
        self.eval()
        with torch.no_grad():
            for block in self.blocks:
                block.attention.in_proj_weight.mul_(2)
                block.attention.in_proj_bias.normal_(0, 0.3)
        _train_head(self, self.head)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], 1) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


def separated(vit: Vit) -> Vit:
    """Return the transformer with separate layers for queries, keys and values."""
    vit = copy.deepcopy(vit)
    for block in vit.blocks:
        block.attention = Attention(block.attention)
    return vit.eval()


# As other people name, arrange and use them.


def softmaxed(network: nn.Module) -> nn.Module:
    """Return the network with a softmax appended."""
    return nn.Sequential(network, nn.Softmax(1))
