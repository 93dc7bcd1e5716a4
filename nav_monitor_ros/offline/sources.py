"""Sources of images: folders, arrays, idx files, bags and built-in samples, all alike.

A source is written ``LOCATION[?key=value&...]``. ``LOCATION`` is

- a folder with one sub-folder for each class, or with images alone (and perhaps ``labels.tsv``:
  file name, tab, class name or index);
- an ``.npz`` file with ``x`` and perhaps ``y``; ``split=train`` takes ``x_train`` and ``y_train``,
  ``NAME=VALUE`` keeps the rows where the array ``NAME`` has that value, ``group=NAME,NAME``
  names the arrays whose equal values mark images that belong together, such as frames of one
  track;
- a folder with MNIST's idx files, plain or ``.gz``, with ``split=train`` or ``split=test``;
- ``PATH:TOPIC``, a bag of ROS 2 and one of its topics with images; see
  ``nav_monitor_ros.offline.bags``. ``labels=FILE`` labels the images by a CSV of time intervals
  (``start,end,class``) and leaves those in none out, see ``nav_monitor_ros.offline.intervals``.
  Images of one second belong together; ``group=SECONDS`` is another time, 0 none;
- ``sample:NAME``, a built-in sample; see ``nav_monitor_ros.offline.samples``.

``limit=N`` and ``seed=S`` keep a random part of any source, ``part=1/3`` the first of three
disjoint random parts (with the same seed), ``classes=0,3`` some of its classes,
``without=0,3`` all others; ``transform=invert`` and ``transform=rotate90`` (a quarter turn to the
left) change every image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.offline.files import open_files
from nav_monitor_ros.offline.images import ImageSource
from nav_monitor_ros.offline.samples import open_sample, whole_number

_SAMPLE = 'sample:'
_COMMON = ('limit', 'part', 'classes', 'without', 'transform')
_TRANSFORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    'invert': lambda image: 255 - image,
    'rotate90': lambda image: np.ascontiguousarray(np.rot90(image)),
}


def open_source(spec: str) -> ImageSource:
    """Open a source of images.

    Args:
        spec: ``LOCATION[?key=value&...]``, as this module's docstring says.

    Raises:
        NavMonitorError: The location does not exist or holds no images, an option is unknown, or a
            file is malformed.
    """
    location, _, query = spec.partition('?')
    try:
        options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError:
        raise NavMonitorError(f"source '{spec}': write options as ?key=value&key=value") from None
    own = {key: value for key, value in options.items() if key not in _COMMON}
    if location.startswith(_SAMPLE):
        source = open_sample(location.removeprefix(_SAMPLE), own)
    else:
        own.pop('seed', None)
        source = open_files(spec, location, own)
    source = replace(source, name=spec)
    source = _keep_classes(source, options)
    source = _keep_some(source, options)
    source = _transformed(source, options)
    if not len(source):
        raise NavMonitorError(f"source '{spec}' holds no images")
    return source


def _keep_classes(source: ImageSource, options: Mapping[str, str]) -> ImageSource:
    for key in ('classes', 'without'):
        if key not in options:
            continue
        if source.labels is None:
            raise NavMonitorError(f"source '{source.name}' has no labels to choose classes by")
        try:
            numbers = [int(number) for number in options[key].split(',')]
        except ValueError:
            raise NavMonitorError(f"source '{source.name}': write {key}=0,3,7") from None
        named = np.isin(source.labels, numbers)
        source = source.subset(np.flatnonzero(named if key == 'classes' else ~named))
    return source


def _transformed(source: ImageSource, options: Mapping[str, str]) -> ImageSource:
    if 'transform' not in options:
        return source
    if options['transform'] not in _TRANSFORMS:
        raise NavMonitorError(
            f"source '{source.name}': transform is '{options['transform']}', not one of "
            f'{", ".join(_TRANSFORMS)}'
        )
    transform, read = _TRANSFORMS[options['transform']], source.read
    return replace(source, read=lambda place: transform(read(place)))


def _keep_some(source: ImageSource, options: Mapping[str, str]) -> ImageSource:
    if 'limit' not in options and 'part' not in options:
        return source
    seed = whole_number(source.name, options, 'seed', 0)
    kept = np.random.default_rng(seed).permutation(len(source))
    if 'part' in options:
        number, _, count = options['part'].partition('/')
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise NavMonitorError(f"source '{source.name}': write part=1/3 for the first of three")
        kept = kept[int(number) - 1 :: int(count)]
    if 'limit' in options:
        kept = kept[: whole_number(source.name, options, 'limit', 0)]
    return source.subset(np.sort(kept))
