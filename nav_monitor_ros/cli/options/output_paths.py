"""Outputs of every command, checked before its work: none over an input, all can be written."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.output_paths import check_output_paths, require_place

Given = Mapping[str, Path | Sequence[Path] | None]  # paths by the options that name them
# What commands read, by the attribute that holds it.
_FILES = {
    'weights': '--weights', 'classes': '--classes', 'preprocess': '--preprocess',
    'params': '--params', 'bag': '--bag', 'bags': 'the bag', 'recordings': 'the recording',
    'recording': 'the recording', 'peer': '--peer',
}
_SOURCES = {
    'data': '--data', 'calibration': '--calibration', 'exclude': '--exclude', 'test': '--test',
    'inside': '--inside', 'ood': '--ood', 'peers': '--peers', 'image': '--image',
    'images': '--images',
}


def check_outputs(
    options: argparse.Namespace, files: Given, *, folders: Given | None = None,
    inputs: Given | None = None,
) -> None:
    """Check what a command writes against what it reads, and that it can be written.

    Args:
        options: Of the command; what they name to be read is found by the options' names.
        files: That are written.
        folders: That are written, and are checked for being writable by what writes them.
        inputs: That are read besides.

    Raises:
        NavMonitorError: Two outputs are one, or one lies in another; an output is an input, or lies
            in or around one; a file cannot be written.
    """
    check_output_paths({**files, **(folders or {})}, {**inputs_of(options), **(inputs or {})})
    for option, path in _each(files):
        require_place(path)
        for other, folder in _each(folders or {}):
            if path.resolve().is_relative_to(folder.resolve()):
                raise NavMonitorError(
                    f'{option} {path} lies in {other} {folder}, which appears when the work is '
                    'done; name a place outside of it'
                )


def inputs_of(options: argparse.Namespace) -> dict[str, list[Path]]:
    """Return what the options of any command name to be read, by the options that name it."""
    found: dict[str, list[Path]] = {}
    for name, option in _FILES.items():
        given = getattr(options, name, None)
        paths = [Path(path) for path in _several(given) if path and isinstance(path, (str, Path))]
        found.setdefault(option, []).extend(paths)
    for name, option in _SOURCES.items():
        given = getattr(options, name, None)
        if name == 'ood':
            given = [text.partition('=')[2] for text in given or ()]
        specs = [spec for spec in _several(given) if isinstance(spec, str)]
        found[option] = [path for spec in specs for path in _paths_of(spec)]
    bundle = getattr(options, 'bundle', None)
    if bundle:
        found['the bundle'] = [Path(bundle)]
    return {option: paths for option, paths in found.items() if paths}


def _each(given: Given) -> list[tuple[str, Path]]:
    return [(option, path) for option, paths in given.items() for path in _several(paths)]


def _several(given: object) -> list:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _paths_of(source: str) -> list[Path]:
    """Return the files and folders of a source; none of one that cannot be used."""
    from nav_monitor_ros.data.source_spec import SAMPLE, SourceSpec, home, split_topic

    try:
        spec = SourceSpec.parse(source)
    except NavMonitorError:
        return []  # told when it is opened
    if not spec.location or spec.location.startswith(SAMPLE):
        return []
    path, _ = split_topic(spec.location)
    labels = spec.options.get('labels')
    return [path, *([home(labels)] if labels else [])]
