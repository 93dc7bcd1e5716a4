"""Functions to read bags in tests: all readable images, and the error about the others."""

from __future__ import annotations

import pytest
import yaml

from nav_monitor_ros.data.bags.bag import BagDamagedError, open_bag
from nav_monitor_ros.errors import NavMonitorError

KINDS = [
    ('mcap', ''), ('mcap', 'storage'), ('mcap', 'message'), ('mcap', 'file'),
    ('sqlite3', ''), ('sqlite3', 'message'), ('sqlite3', 'file'),
]


def read_all(path, topics=()):
    """Return the readable images, and the bag's error about the others."""
    images = []
    with open_bag(path, topics) as bag:
        try:
            images.extend(bag)
        except BagDamagedError as error:
            return images, one_line(error)
    return images, ''


def one_line(error):
    text = str(error)
    assert '\n' not in text and len(text) < 2000
    return text


def refused(path, topics=()):
    with pytest.raises(NavMonitorError) as caught:
        open_bag(path, topics)
    return one_line(caught.value)


def describe(bag, change):
    """Change a bag's metadata with a function."""
    path = bag / 'metadata.yaml'
    described = yaml.safe_load(path.read_text())
    change(described['rosbag2_bagfile_information'])
    path.write_text(yaml.safe_dump(described))


def pixels_of(images):
    return [image.decode().rgb() for image in images]
