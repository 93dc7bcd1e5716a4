"""Sources of images on the command line."""

from __future__ import annotations

from typing import Any

from nav_monitor_ros.cli.console import say

SOURCE = (
    'SOURCE is a folder with one subfolder per class, an .npz file (x, y), a folder of idx files, '
    'BAG:TOPIC, or sample:NAME (digits, triangles, photos, textures, noise, fashion_mnist); '
    'options follow as ?key=value&key=value: split=train|test, limit=N, part=1/3, seed=N, '
    'classes=A,B, without=A,B, transform=invert|rotate90, exif=ignore|apply, group=NAME (frames of '
    'one track), '
    'NAME=VALUE (.npz); '
    'for bags: labels=FILE (a CSV of start,end,class in seconds), group=SECONDS (frames this close '
    'in time belong together)'
)


def opened(spec: str) -> Any:
    """Open a source of images, and print notes about parts of it that are not used.

    Raises:
        NavMonitorError: The source cannot be used.
    """
    from nav_monitor_ros.data.sources import open_source

    source = open_source(spec)
    for note in source.notes:
        say(note)
    return source


def say_how_matched(source: Any, class_names: Any, *, assumed: bool = False) -> None:
    """Print how a source's classes were matched with the network's, unless by equal names.

    Args:
        source: Images.
        class_names: Class names of the network.
        assumed: Whether the network has no class names of its own, so that they are the source's.
    """
    from nav_monitor_ros.data.class_matching import how_matched, naming_note

    note = naming_note(source, None, len(class_names)) if assumed else ''
    note = note or how_matched(source, class_names)
    if note:
        say(note)
