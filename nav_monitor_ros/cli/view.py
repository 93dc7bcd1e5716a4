"""``nav_monitor view``: pictures of what goes on in a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.network_options import (
    add_network,
    add_preprocessing,
    class_names_of,
    network_of,
    preprocess_of,
)
from nav_monitor_ros.cli.output import ProgressBars, opened, say, table_console
from nav_monitor_ros.cli.tuning import add_view_tuning
from nav_monitor_ros.errors import NavMonitorError

_FORMATS = argparse.RawDescriptionHelpFormatter
_COLORMAPS = ('viridis', 'inferno')
_ORDERS = ('index', 'k-means', 'pca-rows', 'pca-maps', 'leaves')


def add_view(commands: Any) -> None:
    """Add the command with all its views."""
    view = commands.add_parser(
        'view',
        help='look inside a network',
        formatter_class=_FORMATS,
        description='Write pictures of what goes on in a network: that of a bundle, or any that '
        '`nav_monitor fit` takes (--model, --weights, --size).',
        epilog='example:\n  nav_monitor view grid digits --image sample:digits --output grid.png',
    )
    views = view.add_subparsers(dest='view', required=True, metavar='VIEW')
    for add in (
        _add_layers, _add_grid, _add_volume, _add_order, _add_weight_gradient, _add_backprop,
        _add_saliency, _add_evolution, add_view_tuning,
    ):
        add(views)


def add_viewed(parser: argparse.ArgumentParser, *, image: bool = True) -> None:
    """Add the options that say which network, and which image, are looked at."""
    parser.add_argument('bundle', nargs='?', help='a bundle: folder, or the name of a shipped one')
    add_network(parser, required=False)
    images = parser.add_argument_group('image')
    if image:
        images.add_argument('--image', required=True, metavar='FILE|SOURCE',
                            help='an image file of any size, or a source as `fit` takes it')
        images.add_argument('--index', type=int, default=0, metavar='N',
                            help='which image of a source, from 0 (default: 0)')
    add_preprocessing(images)
    running = parser.add_argument_group('running')
    running.add_argument('--trust', action='append', default=[], metavar='PACKAGE',
                         help='allow the bundle to import network code from it; may be repeated')
    running.add_argument('--device', default='auto', help='auto, cpu or cuda:N (default: auto)')
    running.add_argument('--threads', type=int, default=1,
                         help="torch's threads on the CPU, 0 for its own choice (default: 1)")


def open_viewed(options: argparse.Namespace, source: Any = None) -> Any:
    """Return the network that the options of ``add_viewed`` name.

    Args:
        options: That were given.
        source: Labelled images, whose classes name the outputs of a network without names.

    Raises:
        NavMonitorError: They name none, or two, or it cannot be used.
    """
    from nav_monitor_ros.inspection.inspected_network import view_bundle, view_network

    if (options.bundle is None) == (options.model is None):
        raise NavMonitorError('name a bundle, or a network with --model and --weights')
    running = {'device': options.device, 'threads': options.threads}
    if options.bundle is not None:
        return view_bundle(options.bundle, trusted_packages=options.trust, **running)
    if options.weights is None:
        raise NavMonitorError('--model needs --weights')
    return view_network(
        network_of(options), options.weights,
        preprocess_of(options), class_names=class_names_of(options.classes), source=source,
        **running,
    )


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--layer', default='', metavar='NAME|NUMBER',
                        help='(default: the last one with extent; `view layers` lists them)')


def _add_drawing(parser: argparse.ArgumentParser, channels: int) -> None:
    parser.add_argument('--channels', type=int, default=channels, metavar='N',
                        help=f'at most so many (default: {channels})')
    parser.add_argument('--colormap', choices=_COLORMAPS, default='viridis',
                        help='of unsigned maps (default: viridis)')
    parser.add_argument('--color-scale', choices=('training', 'image'), default='training',
                        help='what the colours span: 1 to 99 %% of the values in training, where '
                        'a bundle knows them, or of those of this image (default: training)')
    parser.add_argument('--width', type=int, default=960, metavar='PIXELS',
                        help='of the picture (default: 960)')


def _add_layers(views: Any) -> None:
    layers = views.add_parser(
        'layers', help='list the layers', formatter_class=_FORMATS,
        description='List the layers with their numbers, names and shapes. All views take either.',
        epilog='example:\n  nav_monitor view layers traffic_signs',
    )
    add_viewed(layers, image=False)
    layers.set_defaults(run=_layers)


def _layers(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.layer_views import layer_table

    table_console().print(layer_table(open_viewed(options)))


def _add_grid(views: Any) -> None:
    grid = views.add_parser(
        'grid', help='draw all activation maps of a layer', formatter_class=_FORMATS,
        description='Draw the activation maps of a layer for one image, as the node publishes '
        'them on ~/activations.',
        epilog='example:\n  nav_monitor view grid traffic_signs --image sign.png --layer conv4 '
        '--output grid.png',
    )
    add_viewed(grid)
    _add_layer(grid)
    grid.add_argument('--order', choices=('strongest', *_ORDERS), default='index',
                      help='of the channels (default: index)')
    _add_drawing(grid, 256)
    grid.add_argument('--output', required=True, type=Path, metavar='FILE.png')
    grid.set_defaults(run=_grid)


def _grid(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.layer_views import grid, write_picture

    viewed = open_viewed(options)
    layer = viewed.layer(options.layer)
    picture = grid(
        viewed, read_image(options.image, options.index, exif=viewed.preprocess.exif), layer,
        channels=options.channels,
        order=options.order, colormap=options.colormap, width=options.width,
        scale=options.color_scale,
    )
    write_picture(options.output, picture)
    say(f'wrote {options.output}')


def _add_volume(views: Any) -> None:
    volume = views.add_parser(
        'volume', help="write a layer's output as a volume", formatter_class=_FORMATS,
        description="Write a layer's output as a volume of columns, rows and channels: FILE.vox "
        '(voxels), FILE.hd (what they mean) and FILE.html (slices along each axis).',
        epilog='example:\n  nav_monitor view volume digits --image sample:digits --layer conv4 '
        '--bits 8 --output conv4.vox',
    )
    add_viewed(volume)
    volume.add_argument('--layer', default='', metavar='NAME|NUMBER|penultimate',
                        help='(default: the last one with extent); penultimate: the monitored '
                        "features, whose bits are the monitor's pattern")
    volume.add_argument('--bits', type=int, choices=(1, 8), default=8,
                        help='8: rint((x - min) / (max - min) * 255); 1: on or off (default: 8)')
    volume.add_argument('--order', choices=_ORDERS, default='index',
                        help='of the channels (default: index)')
    volume.add_argument('--turnable', type=Path, metavar='FILE.html',
                        help='write a page, too, with the voxels in space, to be turned round '
                        '(needs k3d)')
    volume.add_argument('--output', required=True, type=Path, metavar='FILE.vox')
    volume.set_defaults(run=_volume)


def _volume(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_page
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.layer_views import volume, write_volume
    from nav_monitor_ros.inspection.turnable_volume import require_k3d, turnable_page

    if options.turnable is not None:
        require_suffix([options.turnable], ('.html',))
        require_k3d()
        if options.turnable.resolve() == options.output.with_suffix('.html').resolve():
            raise NavMonitorError(
                f'{options.turnable} is the page with the slices; give --turnable another name'
            )
    viewed = open_viewed(options)
    image = read_image(options.image, options.index, exif=viewed.preprocess.exif)
    found, layer, order = volume(
        viewed, image, options.layer, bits=options.bits, order=options.order
    )
    channels, rows, columns = found.shape
    title = f'{viewed.name}: {layer}'
    lines = [
        f'{channels} channels of {rows} x {columns}, {options.bits} bit a voxel, channels by '
        f'{options.order}.', f'{found.meaning}.',
    ]
    for file in write_volume(options.output, found, layer, order.tolist(), title, lines):
        say(f'wrote {file}')
    if options.turnable is not None:
        write_page(options.turnable, turnable_page(found, title, lines))
        say(f'wrote {options.turnable}')


def _add_order(views: Any) -> None:
    order = views.add_parser(
        'order', help='bring similar channels together', formatter_class=_FORMATS,
        description="Draw a layer's maps in several orders of its channels, and print the "
        'neighbour distance of each (the sum of the L2 steps between neighbours; smaller is '
        'smoother).',
        epilog='example:\n  nav_monitor view order digits --image sample:digits --layer conv4 '
        '--output order.png',
    )
    add_viewed(order)
    _add_layer(order)
    order.add_argument('--row', type=int, metavar='N',
                       help='row of each map that k-means and pca-rows look at (default: the '
                       'middle one)')
    _add_drawing(order, 256)
    order.add_argument('--output', required=True, type=Path, metavar='FILE.png')
    order.set_defaults(run=_order)


def _order(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.layer_views import ordered_grids, write_picture

    viewed = open_viewed(options)
    layer = viewed.layer(options.layer)
    picture, orders = ordered_grids(
        viewed, read_image(options.image, options.index, exif=viewed.preprocess.exif), layer,
        channels=options.channels,
        colormap=options.colormap, width=options.width, row=options.row,
        scale=options.color_scale,
    )
    write_picture(options.output, picture)
    original = orders['index'][1]
    for name, (permutation, distance) in orders.items():
        share = f'{distance / original:.0%} of index' if original else ''
        say(f'{name:9s} neighbour distance {distance:10.4g}  {share:13s} '
            f'{" ".join(map(str, permutation[:12]))}{" ..." if len(permutation) > 12 else ""}')
    say(f'wrote {options.output}')


def _add_weight_gradient(views: Any) -> None:
    parser = views.add_parser(
        'weight-gradient', help='what the filters of a convolution do for three classes',
        formatter_class=_FORMATS,
        description='Draw d logit / d weight of a convolution as a volume of filters, input '
        'channels\nand places of the kernel, for the class that is missed most often, the one '
        'most like it\nand the one least like it by the confusion matrix: on an image that is '
        'classified\ncorrectly and on one that is missed. Below, how much each filter counts, mean '
        '|gradient x weight|,\nand the accuracy while filters are zeroed.',
        epilog='example:\n  nav_monitor view weight-gradient digits --images sample:digits '
        '--layer conv4.0 \\\n      --output filters.png --output filters.html',
    )
    add_viewed(parser, image=False)
    parser.add_argument('--images', required=True, metavar='SOURCE',
                        help='labelled images, as `fit` takes them; without labels, the '
                        "network's predictions count as right")
    parser.add_argument('--layer', default='', metavar='NAME|NUMBER',
                        help='a convolution (default: the last one with extent)')
    parser.add_argument('--reference', metavar='CLASS',
                        help='the first class, name or number (default: missed most often)')
    parser.add_argument('--measured', type=int, default=200, metavar='N',
                        help='images for importance and accuracy, half each; 0 leaves them out '
                        '(default: 200)')
    _add_files(parser, 'FILE.png|FILE.html', several=True)
    parser.set_defaults(run=_weight_gradient)


def _weight_gradient(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_page, write_png
    from nav_monitor_ros.inspection.gradient_views import (
        comparison_lines,
        comparison_page,
        comparison_picture,
    )
    from nav_monitor_ros.inspection.weight_gradients import compare_filters

    require_suffix(options.output, ('.png', '.html'))
    if options.measured < 0:
        raise NavMonitorError(f'--measured {options.measured}: must not be negative')
    source = opened(options.images)
    subject, _ = _open_subject(options, source)
    wanted = options.reference
    with ProgressBars() as progress:
        compared = compare_filters(
            subject.network, subject.preprocess, source, subject.class_names,
            layer=options.layer, reference=None if wanted is None else subject.class_index(wanted),
            measured=options.measured, seed=options.seed, progress=progress,
        )
    _say_match(source, subject.class_names)
    for line in comparison_lines(subject, compared):
        say(line)
    for path in options.output:
        if path.suffix.lower() == '.html':
            write_page(path, comparison_page(subject, compared))
        else:
            write_png(path, comparison_picture(subject, compared), options.colors)
        say(f'wrote {path}')


def _add_backprop(views: Any) -> None:
    parser = views.add_parser(
        'backprop', help='the gradient of a logit with respect to the image, in colours',
        formatter_class=_FORMATS,
        description="Draw the gradient of a class's logit with respect to the network's input: "
        'where it is 0\nthe picture is exactly mid-grey. smoothgrad and integrated-gradients need '
        'captum.',
        epilog='example:\n  nav_monitor view backprop traffic_signs --image sign.png '
        '--method all --output backprop.png',
    )
    add_viewed(parser)
    _add_attribution(parser, 'gradient, smoothgrad, integrated-gradients')
    parser.set_defaults(run=_backprop)


def _backprop(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.attribution import SIGNED
    from nav_monitor_ros.inspection.gradient_views import backprop_picture, methods_of

    _draw_attribution(options, backprop_picture, methods=methods_of(options.method, SIGNED))


def _add_saliency(views: Any) -> None:
    parser = views.add_parser(
        'saliency', help='which pixels a logit comes from', formatter_class=_FORMATS,
        description="Draw how much a class's logit depends on each pixel: the sum of absolute "
        'values over\nchannels, clipped at the 99th percentile. All methods but gradient need '
        'captum.',
        epilog='example:\n  nav_monitor view saliency digits --image sample:digits '
        '--method gradient,grad-cam \\\n      --output saliency.png',
    )
    add_viewed(parser)
    _add_attribution(parser, 'gradient, smoothgrad, integrated-gradients, grad-cam')
    parser.add_argument('--layer', default='', metavar='NAME|NUMBER',
                        help='whose maps grad-cam takes (default: the last one with extent)')
    parser.set_defaults(run=_saliency)


def _saliency(options: argparse.Namespace) -> None:
    from nav_monitor_ros.inspection.gradient_views import methods_of, saliency_picture

    _draw_attribution(
        options, saliency_picture, methods=methods_of(options.method), layer=options.layer
    )


def _add_attribution(parser: argparse.ArgumentParser, methods: str) -> None:
    parser.add_argument('--class', dest='target', metavar='CLASS',
                        help='whose logit, name or number (default: the predicted one)')
    parser.add_argument('--method', default='gradient', metavar='A,B,...',
                        help=f'of {methods}; or all (default: gradient)')
    _add_side(parser, 300)
    _add_files(parser, 'FILE.png', several=False)


def _add_side(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument('--side', type=_side, default=default, metavar='PIXELS',
                        help=f'longer side of each panel, 100 to 2048 (default: {default})')


def _side(text: str) -> int:
    if not (text.isdecimal() and 100 <= int(text) <= 2048):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 100 to 2048")
    return int(text)


def _draw_attribution(options: argparse.Namespace, draw: Any, **choices: Any) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_png
    from nav_monitor_ros.inspection.inspected_network import read_image

    require_suffix([options.output], ('.png',))
    subject, _ = _open_subject(options)
    image = read_image(options.image, options.index, exif=subject.preprocess.exif)
    target = None if options.target is None else subject.class_index(options.target)
    picture = draw(
        subject, image, target=target, seed=options.seed, side=options.side, **choices
    )
    write_png(options.output, picture, options.colors)
    say(f'wrote {options.output}')


def _add_evolution(views: Any) -> None:
    parser = views.add_parser(
        'evolution', help='the gradient of one image while the network learns',
        formatter_class=_FORMATS,
        description='Train a copy of the network on its cross entropy, and draw the gradient of '
        "one image's\nlogit after more and more steps, with the loss and the logit. Nothing is "
        'kept of the training.',
        epilog='example:\n  nav_monitor view evolution digits --image sample:digits '
        '--images sample:digits \\\n      --output evolution.gif --output evolution.html',
    )
    add_viewed(parser)
    training = parser.add_argument_group('training')
    training.add_argument('--images', required=True, metavar='SOURCE',
                          help='labelled images to train on, as `fit` takes them; without labels, '
                          "the network's predictions count as right")
    training.add_argument('--from', dest='start', choices=('initialisation', 'weights'),
                          default='initialisation',
                          help='where to start (default: initialisation)')
    training.add_argument('--steps', type=int, default=80, metavar='N', help='(default: 80)')
    training.add_argument('--frames', type=int, default=24, metavar='N',
                          help='at most, closer together early (default: 24)')
    training.add_argument('--batch', type=int, default=32, metavar='N',
                          help='images a step (default: 32)')
    training.add_argument('--learning-rate', type=float, metavar='RATE',
                          help='of Adam (default: 1e-3 from the initialisation, 1e-4 from the '
                          'weights)')
    training.add_argument('--measured', type=int, default=128, metavar='N',
                          help='images that the loss is measured on (default: 128)')
    parser.add_argument('--class', dest='target', metavar='CLASS',
                        help='whose logit, name or number (default: what the trained network '
                        'predicts)')
    _add_side(parser, 250)
    _add_files(parser, 'FILE.gif|FILE.html', several=True)
    parser.set_defaults(run=_evolution)


def _evolution(options: argparse.Namespace) -> None:
    from nav_monitor_ros.files.pictures import require_suffix, write_gif, write_page
    from nav_monitor_ros.inspection.evolution_views import (
        LEARNING_RATES,
        evolution_lines,
        evolution_page,
        evolution_pictures,
        untrained,
        watch,
    )
    from nav_monitor_ros.inspection.inspected_network import read_image
    from nav_monitor_ros.inspection.training_steps import TrainingOptions

    require_suffix(options.output, ('.gif', '.html'))
    source = opened(options.images)
    subject, build = _open_subject(options, source)
    image = read_image(options.image, options.index, exif=subject.preprocess.exif)
    target = None if options.target is None else subject.class_index(options.target)
    network = subject.network.network
    if options.start == 'initialisation':
        network = untrained(build, options.seed).to(subject.network.device)
    rate = options.learning_rate
    training = TrainingOptions(
        steps=options.steps, frames=options.frames, batch=options.batch,
        learning_rate=LEARNING_RATES[options.start] if rate is None else rate,
        measured=options.measured, seed=options.seed,
    )
    with ProgressBars() as progress:
        evolution, target = watch(
            subject, network, source, image, training, target=target, progress=progress
        )
    _say_match(source, subject.class_names)
    for line in evolution_lines(evolution):
        say(line)
    pictures = evolution_pictures(subject, image, target, evolution, side=options.side)
    for path in options.output:
        if path.suffix.lower() == '.html':
            write_page(path, evolution_page(subject, target, pictures, evolution))
        else:
            write_gif(path, pictures, pause_ms=250)
        say(f'wrote {path}')


def _say_match(source: Any, class_names: Any) -> None:
    from nav_monitor_ros.data.labels import how_matched

    note = how_matched(source, class_names)
    if note:
        say(note)


def _add_files(parser: argparse.ArgumentParser, kinds: str, *, several: bool) -> None:
    parser.add_argument('--seed', type=int, default=0, help='of everything random (default: 0)')
    if '.png' in kinds:
        parser.add_argument('--colors', type=int, default=0, metavar='N',
                            help='write a .png with a palette of N colours, 2 to 256: a smaller '
                            'file, its colours no longer exact (default: all colours)')
    parser.add_argument(
        '--output', required=True, type=Path, metavar=kinds,
        action='append' if several else 'store', help='may be repeated' if several else None,
    )


def _open_subject(options: argparse.Namespace, source: Any = None) -> tuple[Any, Any]:
    """Return the network ready for gradients, and a function that makes it anew."""
    from nav_monitor_ros.inspection.gradient_views import Subject

    viewed = open_viewed(options, source)
    if viewed.bundle is not None:
        spec, trusted = viewed.bundle.network, options.trust
    else:
        # Whoever types the package's name on the command line trusts it.
        spec = network_of(options)
        trusted = [spec.package]

    def build() -> Any:
        return spec.build(trusted)

    return Subject.of(viewed, build), build
