"""Options for a network: its code and weights, and the preprocessing of its images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.options import torchvision_hints
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.untrusted_yaml import plain_value, read_yaml

_NETWORK = ('model', 'model_arg', 'output_index', 'weights', 'classes')
_PREPROCESSING = ('preprocess', 'size', 'fit', 'resize_to', 'color', 'mean', 'std', 'scale',
                  'interpolation', 'exif')

_log = logging.getLogger(__name__)


def add_network(
    parser: argparse.ArgumentParser, *, required: bool, several: bool = False
) -> Any:
    """Add the options that name a network.

    Args:
        parser: Parser of a command.
        required: Whether the options are required.
        several: Whether ``--weights`` may be repeated; then it is a list.

    Returns:
        Group of the options.
    """
    network = parser.add_argument_group('network')
    network.add_argument(
        '--model', required=required, metavar='SPEC',
        help='torchvision:NAME, package.module:factory, or onnx for an ONNX file (--weights)',
    )
    network.add_argument(
        '--model-arg', action='append', default=[], metavar='KEY=VALUE',
        help='argument of the factory; may be repeated',
    )
    network.add_argument(
        '--output-index', metavar='N|NAME',
        help='output with the class scores, if there are several: 0-based number or name',
    )
    formats = (
        '.safetensors, or a file of torch.save (.pt, .pth, ...); with --model onnx, the ONNX file'
    )
    if several:
        network.add_argument('--weights', action='append', default=[], type=Path, metavar='FILE',
                             help=f'{formats}; repeat it for each checkpoint, in order')
    else:
        network.add_argument('--weights', required=required, type=Path, metavar='FILE',
                             help=formats)
    network.add_argument('--classes', type=Path, metavar='FILE',
                         help='class names, one per line, in the order of the outputs')
    return network


def network_of(options: argparse.Namespace) -> Any:
    """Return the specification of the network that the options name.

    Raises:
        NavMonitorError: An option is malformed.
    """
    from nav_monitor_ros.perception.network.specification import ONNX, NetworkSpec

    if options.model == ONNX and options.model_arg:
        raise NavMonitorError(
            '--model-arg is for the function that builds a network; a network in an ONNX file '
            'takes no arguments'
        )
    output: int | str | None = options.output_index
    with suppress(TypeError, ValueError):
        output = int(options.output_index)
    return NetworkSpec(options.model, dict(map(key_value, options.model_arg)), output)


def add_preprocessing(images: Any) -> None:
    """Add the preprocessing options to a group."""
    images.add_argument('--preprocess', type=Path, metavar='FILE',
                        help='YAML file with the fields of the options below')
    images.add_argument('--size', metavar='HxW',
                        help="rows and columns of the network's input, such as 224x224")
    images.add_argument('--fit', choices=('stretch', 'center_crop', 'letterbox'),
                        help='how images of another aspect ratio are fitted to --size (default: '
                        'stretch)')
    images.add_argument('--resize-to', type=int, metavar='N',
                        help='length of the shorter side before the centre crop')
    images.add_argument('--color', choices=('rgb', 'bgr', 'gray'),
                        help="channel order of the network's input (default: rgb)")
    images.add_argument('--mean', metavar='R,G,B',
                        help='mean of each channel (default: that of ImageNet)')
    images.add_argument('--std', metavar='R,G,B',
                        help='standard deviation of each channel (default: that of ImageNet)')
    images.add_argument('--scale', type=float,
                        help='factor by which pixel values are multiplied (default: 1/255)')
    images.add_argument('--interpolation',
                        choices=('antialias', 'bicubic', 'area', 'bilinear', 'nearest'),
                        help='interpolation when resizing: antialias (bilinear) and bicubic are '
                        'antialiased as in torchvision and Pillow, the others are those of OpenCV '
                        '(default: antialias)')
    images.add_argument('--exif', choices=('ignore', 'apply'),
                        help='apply: the network was trained on images that were rotated according '
                        'to their EXIF orientation (default: ignore, as torchvision does)')


def preprocess_of(options: argparse.Namespace) -> Any:
    """Return the preprocessing that the options describe.

    If it, or ``--model-arg``, leaves out what the weights distributed by torchvision need, a
    warning is logged.

    Raises:
        NavMonitorError: The options are incomplete or contradict each other.
    """
    from nav_monitor_ros.perception.preprocess import Preprocess

    fields: dict[str, Any] = {}
    if options.preprocess is not None:
        loaded = read_yaml(options.preprocess)
        if not isinstance(loaded, dict):
            raise NavMonitorError(f'{options.preprocess} is not a mapping of preprocessing fields')
        fields.update(loaded)
    if options.size:
        height, _, width = options.size.partition('x')
        if not (height.isdecimal() and width.isdecimal()):
            raise NavMonitorError(f'--size {options.size}: write HEIGHTxWIDTH, such as 224x224')
        fields.update(height=int(height), width=int(width))
    for name in ('fit', 'resize_to', 'color', 'scale', 'interpolation', 'exif'):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    for name in ('mean', 'std'):
        if getattr(options, name) is not None:
            try:
                fields[name] = [float(n) for n in getattr(options, name).split(',')]
            except ValueError:
                raise NavMonitorError(f'--{name} must be comma-separated numbers') from None
    if not {'height', 'width'} <= set(fields):
        raise NavMonitorError(
            "give the size of the network's input: --size HxW or --preprocess"
            f'{torchvision_hints.needed_options(options.model)}'
        )
    found = Preprocess.from_dict(fields)
    white = 255 * found.scale
    if max(found.mean) > white * (1 + 1e-6):
        raise NavMonitorError(
            f'the mean {max(found.mean):g} is above white: pixels times scale are 0 to {white:g}; '
            'give --scale 1 if mean and std are in grey levels'
        )
    arguments = [argument.partition('=')[0] for argument in options.model_arg]
    for note in torchvision_hints.notes(options.model, arguments, found, fields):
        _log.warning('%s', note)
    return found


def refuse_network_options(options: argparse.Namespace, allowed: Collection[str] = ()) -> None:
    """Refuse options that describe a network together with a bundle, which contains a network.

    Args:
        options: Options of a command that accepts either.
        allowed: Options that have another meaning in this command.

    Raises:
        NavMonitorError: Such an option is given; the message names it and the bundle.
    """
    for name in (*_NETWORK, *_PREPROCESSING):
        if name not in allowed and getattr(options, name) not in (None, []):
            raise NavMonitorError(
                f"--{name.replace('_', '-')} describes a network, but the bundle "
                f"'{options.bundle}' contains one; leave out one of them"
            )


def names_are_assumed(options: argparse.Namespace) -> bool:
    """Return whether neither a bundle nor ``--classes`` names the classes of the network."""
    return options.bundle is None and options.classes is None


def class_names_of(path: Path | None) -> tuple[str, ...] | None:
    """Read the class names in a file, one per line; return None without a file.

    Raises:
        NavMonitorError: The file cannot be read, or a name is invalid.
    """
    if path is None:
        return None
    from nav_monitor_ros.perception.network.class_names import read_class_names

    return read_class_names(path)


def key_value(text: str) -> tuple[str, Any]:
    """Parse ``KEY=VALUE``, where the value is YAML.

    Raises:
        NavMonitorError: The text does not have that form.
    """
    key, equals, value = text.partition('=')
    if not equals or not key:
        raise NavMonitorError(f"'{text}' is not of the form KEY=VALUE")
    return key, plain_value(value)
