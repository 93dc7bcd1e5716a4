"""A network on the command line: where it comes from, and how images are brought to it."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.untrusted_yaml import plain_value, read_yaml

_NETWORK = ('model', 'model_arg', 'output_index', 'weights', 'classes')
_PREPROCESSING = ('preprocess', 'size', 'fit', 'resize_to', 'color', 'mean', 'std', 'scale',
                  'interpolation', 'exif')


def add_network(
    parser: argparse.ArgumentParser, *, required: bool, several: bool = False
) -> Any:
    """Add the options that name a network.

    Args:
        parser: Of a command.
        required: Whether the command needs them.
        several: Whether ``--weights`` may be repeated; then it is a list.

    Returns:
        Their group.
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
        help='which of several outputs has the class scores, its number from 0 or its name',
    )
    formats = '.safetensors, or what torch.save wrote (.pt, .pth, ...); of --model onnx the file'
    if several:
        network.add_argument('--weights', action='append', default=[], type=Path, metavar='FILE',
                             help=f'{formats}; repeated, checkpoint after checkpoint')
    else:
        network.add_argument('--weights', required=required, type=Path, metavar='FILE',
                             help=formats)
    network.add_argument('--classes', type=Path, metavar='FILE',
                         help='class names, one a line, in the order of the outputs')
    return network


def network_of(options: argparse.Namespace) -> Any:
    """Return the specification of the network that the options name.

    Raises:
        NavMonitorError: They are malformed.
    """
    from nav_monitor_ros.perception.network.specification import NetworkSpec

    output: int | str | None = options.output_index
    with suppress(TypeError, ValueError):
        output = int(options.output_index)
    return NetworkSpec(options.model, dict(map(key_value, options.model_arg)), output)


def add_preprocessing(images: Any) -> None:
    """Add the options that say how pixels become the network's input to a group."""
    images.add_argument('--preprocess', type=Path, metavar='FILE',
                        help='YAML with the fields of the flags below')
    images.add_argument('--size', metavar='HxW', help="the network's input, such as 224x224")
    images.add_argument('--fit', choices=('stretch', 'center_crop', 'letterbox'),
                        help='how other aspect ratios are brought to it (default: stretch)')
    images.add_argument('--resize-to', type=int, metavar='N',
                        help='shorter side before the centre crop')
    images.add_argument('--color', choices=('rgb', 'bgr', 'gray'),
                        help='channel order of the network (default: rgb)')
    images.add_argument('--mean', metavar='R,G,B', help='(default: that of ImageNet)')
    images.add_argument('--std', metavar='R,G,B', help='(default: that of ImageNet)')
    images.add_argument('--scale', type=float, help='pixels are multiplied by it (default: 1/255)')
    images.add_argument('--interpolation', choices=('antialias', 'area', 'bilinear', 'nearest'),
                        help='(default: antialias, as torchvision resizes)')
    images.add_argument('--exif', choices=('ignore', 'apply'),
                        help='apply: the network was trained on pictures that were turned as their '
                        'EXIF orientation says (default: ignore, as torchvision reads them)')


def preprocess_of(options: argparse.Namespace) -> Any:
    """Return the preprocessing that the options describe.

    Raises:
        NavMonitorError: They are incomplete or contradict each other.
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
                raise NavMonitorError(f'--{name} must be numbers with commas between') from None
    if not {'height', 'width'} <= set(fields):
        raise NavMonitorError("give the size of the network's input: --size HxW or --preprocess")
    found = Preprocess.from_dict(fields)
    white = 255 * found.scale
    if max(found.mean) > white * (1 + 1e-6):
        raise NavMonitorError(
            f'the mean {max(found.mean):g} is above white: pixels times scale are 0 to {white:g}; '
            'give --scale 1 if mean and std are in gray levels'
        )
    return found


def refuse_network_options(options: argparse.Namespace, allowed: Collection[str] = ()) -> None:
    """Refuse options that describe a network where a bundle is named, which brings its own.

    Args:
        options: Of a command that takes either.
        allowed: Options that say something else there.

    Raises:
        NavMonitorError: One is given; the message names it and the bundle.
    """
    for name in (*_NETWORK, *_PREPROCESSING):
        if name not in allowed and getattr(options, name) not in (None, []):
            raise NavMonitorError(
                f"--{name.replace('_', '-')} describes a network, and the bundle "
                f"'{options.bundle}' brings its own; leave one of them out"
            )


def class_names_of(path: Path | None) -> tuple[str, ...] | None:
    """Return the class names of a file, one a line, or None without a file.

    Raises:
        NavMonitorError: The file cannot be read, or a name cannot be used.
    """
    if path is None:
        return None
    from nav_monitor_ros.perception.network.class_names import read_class_names

    return read_class_names(path)


def key_value(text: str) -> tuple[str, Any]:
    """Return what ``KEY=VALUE`` says, the value as YAML reads it.

    Raises:
        NavMonitorError: It is not of that form.
    """
    key, equals, value = text.partition('=')
    if not equals or not key:
        raise NavMonitorError(f"'{text}' is not of the form KEY=VALUE")
    return key, plain_value(value)  # numbers, booleans and lists as YAML writes them
