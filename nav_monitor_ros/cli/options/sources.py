"""Sources of images on the command line."""

from __future__ import annotations

from typing import Any

from nav_monitor_ros.cli.console import say

SOURCE = (
    'SOURCE is a folder with one sub-folder per class, an .npz file (x, y), a folder of idx files, '
    'BAG:TOPIC, or sample:NAME (digits, triangles, photos, textures, noise, fashion_mnist); '
    'options follow as ?key=value&key=value: split=train|test, limit=N, part=1/3, seed=N, '
    'classes=A,B, without=A,B, transform=invert|rotate90, exif=ignore|apply, group=NAME (frames of '
    'one track), '
    'NAME=VALUE (.npz); '
    'of bags: labels=FILE (a CSV of start,end,class in seconds), group=SECONDS (that are alike)'
)


def opened(spec: str) -> Any:
    """Open a source of images, and report what of it is not used.

    Raises:
        NavMonitorError: It cannot be used.
    """
    from nav_monitor_ros.data.sources import open_source

    source = open_source(spec)
    for note in source.notes:
        say(note)
    return source


def say_how_matched(source: Any, class_names: Any) -> None:
    """Report how a source's classes were matched with a network's, unless simply by name."""
    from nav_monitor_ros.data.class_matching import how_matched

    note = how_matched(source, class_names)
    if note:
        say(note)
