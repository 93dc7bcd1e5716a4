"""Image sources: folders, arrays, idx files, bags and built-in samples behind one interface.

A source is specified as ``LOCATION[?key=value&...]``, see ``nav_monitor_ros.data.source_spec``.
``LOCATION`` is

- a folder of images, with one subfolder per class or without subfolders; a ``labels.tsv`` in it
  (file name, tab, class name or index) takes precedence, see
  ``nav_monitor_ros.data.image_folders``;
- an ``.npz`` file with ``x`` and perhaps ``y``; ``split=train`` takes ``x_train`` and ``y_train``,
  ``NAME=VALUE`` keeps the rows where the array ``NAME`` has that value, ``group=NAME,NAME``
  names the arrays whose equal values mark images that belong together, such as frames of one
  track;
- a folder with MNIST's idx files, plain or ``.gz``, with ``split=train`` or ``split=test``;
- ``PATH:TOPIC``, a ROS 2 bag and one of its image topics; see
  ``nav_monitor_ros.data.bags.bag``. ``labels=FILE`` labels the images by a CSV of time intervals
  (``start,end,class``) and leaves out all others, see ``nav_monitor_ros.data.intervals``. Images
  within one second belong together; ``group=SECONDS`` sets another time, 0 for none;
- ``sample:NAME``, a built-in sample; see ``nav_monitor_ros.data.samples``.

``limit=N`` and ``seed=S`` keep a random part of any source, ``part=1/3`` the first of three
disjoint random parts (with the same seed; images that belong together are in one part),
``classes=cat,dog`` some of its classes,
``without=cat,dog`` all others: by name, or by number where classes have no names;
``transform=invert`` and ``transform=rotate90`` (a quarter turn to the left) transform every image.
``exif=apply`` rotates encoded images according to their EXIF orientation, ``exif=ignore`` does not;
either overrides the preprocessing of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nav_monitor_ros.data.files_on_disk import open_files
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.samples import open_sample, whole_number
from nav_monitor_ros.data.source_spec import SAMPLE, SourceSpec
from nav_monitor_ros.errors import NavMonitorError, did_you_mean
from nav_monitor_ros.perception.exif_orientation import EXIF
from nav_monitor_ros.perception.network.class_names import comparable

_COMMON = ('limit', 'part', 'classes', 'without', 'transform', 'exif')
_LISTED = 12  # classes listed in a message
_TRANSFORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    'invert': lambda image: 255 - image,
    'rotate90': lambda image: np.ascontiguousarray(np.rot90(image)),
}


def open_source(spec: str) -> ImageSource:
    """Open a source of images.

    Args:
        spec: ``LOCATION[?key=value&...]``, see this module's docstring.

    Raises:
        NavMonitorError: The location does not exist or holds no images, an option is unknown, or a
            file is malformed.
    """
    parts = SourceSpec.parse(spec)
    location, options = parts.location, parts.options
    own = {key: value for key, value in options.items() if key not in _COMMON}
    if location.startswith(SAMPLE):
        source = open_sample(location.removeprefix(SAMPLE), own)
    else:
        own.pop('seed', None)
        source = open_files(spec, location, own)
    source = replace(source, name=spec)
    source = _oriented(source, options)
    source = _keep_classes(source, parts)
    source = _keep_some(source, options)
    source = _transformed(source, options)
    if not len(source):
        raise NavMonitorError(f"source '{spec}' holds no images")
    return source


def _oriented(source: ImageSource, options: Mapping[str, str]) -> ImageSource:
    if 'exif' not in options:
        return source
    if options['exif'] not in EXIF:
        raise NavMonitorError(
            f"source '{source.name}': exif is '{options['exif']}', not one of {', '.join(EXIF)}"
        )
    if source.read_turned is None:
        raise NavMonitorError(f"source '{source.name}': its images have no EXIF data")
    # Preprocessing does not rotate them again.
    return replace(source.oriented(options['exif']), read_turned=None)


def _keep_classes(source: ImageSource, parts: SourceSpec) -> ImageSource:
    whole = source
    for key in ('classes', 'without'):
        if key not in parts.written:
            continue
        if source.own_labels is None:
            raise NavMonitorError(f"source '{source.name}' has no labels to choose classes by")
        numbers = [
            number for wanted in parts.listed(key) for number in _class_numbers(whole, key, wanted)
        ]
        named = np.isin(source.own_labels, numbers)
        source = source.subset(np.flatnonzero(named if key == 'classes' else ~named))
    return source


def _class_numbers(source: ImageSource, key: str, wanted: str) -> list[int]:
    """Return the numbers of a class, given by name or, if classes have no names, by number.

    Args:
        source: Source with all of its classes.
        key: Name of the option, for messages.
        wanted: Value of the option.

    Raises:
        NavMonitorError: There is no such class.
    """
    if source.class_names is not None:
        found = [
            number for number, name in enumerate(source.class_names)
            if comparable(name) == comparable(wanted)
        ]
        known = list(source.class_names)
    else:
        assert source.own_labels is not None
        numbers = np.unique(source.own_labels).tolist()
        known = [str(number) for number in numbers]
        if not (wanted.isascii() and wanted.isdecimal()):
            raise NavMonitorError(
                f"source '{source.name}': its classes have numbers, not names ({_listed(known)}), "
                f"and {key}= has '{wanted}'"
            )
        found = [number for number in numbers if str(number) == (wanted.lstrip('0') or '0')]
    if not found:
        raise NavMonitorError(
            f"source '{source.name}' has no class '{wanted}' for {key}=; it has {_listed(known)}"
            f'{did_you_mean(wanted, known)}'
        )
    return found


def _listed(names: Sequence[str]) -> str:
    return ', '.join([*names[:_LISTED], '...'] if len(names) > _LISTED else names)


def _transformed(source: ImageSource, options: Mapping[str, str]) -> ImageSource:
    if 'transform' not in options:
        return source
    if options['transform'] not in _TRANSFORMS:
        raise NavMonitorError(
            f"source '{source.name}': transform is '{options['transform']}', not one of "
            f'{", ".join(_TRANSFORMS)}'
        )
    transform, read, read_turned = (
        _TRANSFORMS[options['transform']], source.read, source.read_turned
    )
    return replace(
        source, read=lambda place: transform(read(place)),
        read_turned=None if read_turned is None else lambda place: transform(read_turned(place)),
    )


def _keep_some(source: ImageSource, options: Mapping[str, str]) -> ImageSource:
    if 'limit' not in options and 'part' not in options:
        return source
    seed = whole_number(source.name, options, 'seed', 0)
    kept = np.random.default_rng(seed).permutation(len(source))
    if 'part' in options:
        number, _, count = options['part'].partition('/')
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise NavMonitorError(f"source '{source.name}': write part=1/3 for the first of three")
        kept = _part(source, kept, int(number), int(count))
    if 'limit' in options:
        kept = kept[: whole_number(source.name, options, 'limit', 0)]
    return source.subset(np.sort(kept))


def _part(source: ImageSource, shuffled: np.ndarray, number: int, count: int) -> np.ndarray:
    """Return the places of one of so many parts, in their order in ``shuffled``, int64 (M,).

    Images of one group stay together: one part may serve for fitting and another for calibration,
    which their neighbours would spoil.
    """
    if source.groups is None:
        return shuffled[number - 1 :: count]
    groups, group_of = np.unique(source.groups, return_inverse=True)
    if len(groups) < count:
        raise NavMonitorError(
            f"source '{source.name}' has {len(groups)} groups of images that belong together, too "
            f'few for {count} parts'
        )
    # Groups in the order in which the shuffled images first show them.
    group_of = group_of.reshape(-1)[shuffled]
    _, first = np.unique(group_of, return_index=True)
    order = group_of[np.sort(first)]
    return shuffled[np.isin(group_of, order[number - 1 :: count])]
