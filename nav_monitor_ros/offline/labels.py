"""The classes of a source's images, as the network numbers them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.offline.images import ImageSource


def network_labels(
    source: ImageSource, class_names: Sequence[str], background: int | None = None
) -> np.ndarray | None:
    """Return the images' classes as the network numbers them, or None without labels.

    A source numbers its classes in its own way, a folder by the alphabet; where it names them as
    the network's are named, the names decide.

    Args:
        source: Images, perhaps with labels.
        class_names: In the order of the network's outputs.
        background: Which output stands for none of the classes, for the message.

    Raises:
        NavMonitorError: The network has no such classes.
    """
    if source.labels is None:
        return None
    labels = source.labels
    if source.class_names and tuple(source.class_names) != tuple(class_names):
        index = {name: number for number, name in enumerate(class_names)}
        unknown = [name for name in source.class_names if name not in index]
        if not unknown:
            labels = np.array([index[name] for name in source.class_names])[labels]
        elif len(source.class_names) != len(class_names):
            raise NavMonitorError(
                f"{source.name} has the class '{unknown[0]}', which is none of the network's "
                f'{len(class_names)} ({", ".join(class_names[:5])}, ...); name the classes as the '
                'network does, or the network as the data (--classes)'
            )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        besides = (
            '' if background is None else f' besides the background class, output {background}'
        )
        raise NavMonitorError(
            f'{source.name} has labels from {labels.min()} to {labels.max()}, but the network has '
            f'classes 0 to {len(class_names) - 1}{besides}; check --data, --model and '
            '--background'
        )
    return labels
