"""Checks before a command starts: no output overwrites an input, and all can be written."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.output_paths import check_output_paths, require_place

Given = Mapping[str, Path | Sequence[Path] | None]  # paths by the options that name them
# Inputs of the commands, by the attribute of the options that holds them.
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
    """Check that a command's outputs do not collide with its inputs and can be written.

    Args:
        options: Options of the command; the inputs among them are found by their names.
        files: Output files.
        folders: Output folders; their writers check that they can be written.
        inputs: Further inputs.

    Raises:
        NavMonitorError: Two outputs are the same or one contains the other; an output is an
            input, contains one or lies in one; a file cannot be written.
    """
    check_output_paths({**files, **(folders or {})}, {**inputs_of(options), **(inputs or {})})
    for option, path in _each(files):
        require_place(path)
        for other, folder in _each(folders or {}):
            if path.resolve().is_relative_to(folder.resolve()):
                raise NavMonitorError(
                    f'{option} {path} lies in {other} {folder}, which is created at the end; name '
                    'a path outside of it'
                )


def inputs_of(options: argparse.Namespace) -> dict[str, list[Path]]:
    """Return the inputs that the options of any command name, by option."""
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
    """Return the files and folders of a source; none if the source is invalid."""
    from nav_monitor_ros.data.source_spec import SAMPLE, SourceSpec, home, split_topic

    try:
        spec = SourceSpec.parse(source)
    except NavMonitorError:
        return []  # reported when the source is opened
    if not spec.location or spec.location.startswith(SAMPLE):
        return []
    path, _ = split_topic(spec.location)
    labels = spec.options.get('labels')
    return [path, *([home(labels)] if labels else [])]
