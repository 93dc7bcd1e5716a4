"""One topic of a bag as a source of images."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np

from nav_monitor_ros.data.bags.bag import open_bag
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.exif_orientation import APPLY, IGNORE


def open_bag_source(spec: str, path: Path, topic: str) -> ImageSource:
    """Return the images of one topic of a bag as a thread-safe source without labels.

    For a damaged bag, the source has the readable images, and a warning is logged.

    Args:
        spec: The whole specification, for messages.
        path: Path of the bag.
        topic: Name of the topic; '' raises an error that lists the image topics.

    Raises:
        NavMonitorError: As for ``open_bag``.
    """
    bag = open_bag(path, [topic] if topic else [])
    if not topic:
        names = ', '.join(t.name for t in bag.image_topics) or 'it has none'
        bag.close()
        raise NavMonitorError(
            f"source '{spec}': name the topic with images, {path}:TOPIC, one of: "
            f'{one_line(names, 1000)}'
        )
    if bag.damage:
        logging.getLogger(__name__).warning(
            'bag %s is damaged (%s); %d images can be read', path, bag.damage, len(bag)
        )

    turn = threading.Lock()  # one thread at a time reads; any number of threads decode

    def read(place: int, exif: str = IGNORE) -> np.ndarray:
        with turn:
            image = bag[place]
        try:
            raw = image.decode(exif=exif)
        except NavMonitorError as error:
            raise NavMonitorError(
                f'bag {path}, topic {topic}, image {place} (stamp {image.stamp_ns}): {error}'
            ) from None
        return raw.gray() if raw.order == 'gray' else raw.rgb()

    return ImageSource(
        str(path), read, np.arange(len(bag)), received_ns=bag.received_ns,
        read_turned=lambda place: read(place, APPLY),
    )
