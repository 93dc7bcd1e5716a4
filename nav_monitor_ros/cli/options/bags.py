"""Bags and their image topics on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nav_monitor_ros.errors import NavMonitorError

_LONGEST_LIST = 1000  # characters of a list of topics in a message


def open_topics(path: Path, wanted: list[str]) -> tuple[Any, list[str]]:
    """Open a bag, and return it with the names of the topics to read, as the bag spells them.

    Raises:
        NavMonitorError: The bag cannot be read; it has no such topic or no image; it has several
            topics and none was named.
    """
    from nav_monitor_ros.data.bags.bag import open_bag

    bag = open_bag(path, wanted)
    there = [topic.name for topic in bag.image_topics]
    if wanted:
        absolute = {name if name.startswith('/') else f'/{name}' for name in wanted} | {*wanted}
        topics = [name for name in dict.fromkeys(there) if name in absolute]
    else:
        topics = there
    problem = ''
    if len(topics) > 1 and not wanted or not topics:
        shown = ', '.join(there)[:_LONGEST_LIST] or 'none'
        problem = f'give --topic; topics with images: {shown}'
    elif not len(bag):
        damage = f'; it is damaged: {bag.damage}' if bag.damage else ''
        problem = f'it has no image of {", ".join(topics)}{damage}'
    if problem:
        bag.close()
        raise NavMonitorError(f'{path}: {problem}')
    return bag, topics
