"""Choose the images by which an export is judged: those of the calibration, where it has them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.data.distinct_images import first_occurrences
from nav_monitor_ros.data.image_source import (
    ImageSource,
    add_fingerprints,
    fingerprint_of,
)
from nav_monitor_ros.decision.false_alarm_budget import images_needed
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.calibration_split import CalibrationSplit, split_calibration

_log = logging.getLogger(__name__)


def split_images(
    bundle: Bundle, calibration: ImageSource, digests: Sequence[bytes], seed: int
) -> tuple[CalibrationSplit, bool]:
    """Return the images on which the monitor was calibrated, split as by ``fit``.

    If the bundle does not list them, or none of them is present, all images that are neither
    training images nor duplicates are used.

    Args:
        bundle: The fitted bundle.
        calibration: N images.
        digests: Checksums of their pixels.
        seed: Random seed for dividing images on which the monitor was not calibrated.

    Returns:
        The split, and whether the bundle lists its images as those of its calibration.

    Raises:
        NavMonitorError: There are too few of them.
    """
    members = len(bundle.calibration.fusion_members)
    known = bundle.calibration_images
    first, second = (np.zeros(0, np.int64),) * 2 if known is None else known.find(digests)
    count = len(first) + len(second)
    if count:
        taken = {digests[place] for place in (*first, *second)}  # fit counts copies once, too
        others = sum(digest not in taken for digest in digests)
        if others:
            _log.warning(
                '%d of %d images are not used: the monitor was not calibrated on them, so they '
                'may be training images', others, len(calibration),
            )
        require_images(bundle, calibration.name, count)
        if members == 1:
            return CalibrationSplit(None, np.sort(np.concatenate([first, second]))), True
        return CalibrationSplit(first, second), True
    kept = np.flatnonzero(~_trained_on(bundle, calibration, digests) & first_occurrences(digests))
    if known is not None:
        _log.warning(
            'the monitor was calibrated on none of these images: the network may have been '
            'trained on them, and an engine may be refused that agrees on its own images; %s',
            calibration_advice(bundle),
        )
    require_images(bundle, calibration.name, len(kept))
    split = split_calibration(calibration.subset(kept), members, seed)
    return CalibrationSplit(
        None if split.fusion is None else kept[split.fusion], kept[split.calibration]
    ), False


def require_images(bundle: Bundle, name: str, count: int) -> None:
    """Check that there are enough images to compare engines.

    Args:
        bundle: The fitted bundle.
        name: Name of their source.
        count: Number of images.

    Raises:
        NavMonitorError: There are too few.
    """
    needed = images_needed(bundle.calibration.alpha, bundle.calibration.confidence)
    if count < needed:
        raise NavMonitorError(
            f'{count} calibration images ({name}) are too few to tell whether a backend agrees: '
            f'{needed} are needed; {calibration_advice(bundle)}'
        )


def calibration_advice(bundle: Bundle) -> str:
    """Return which images to give, with their source if the bundle names it."""
    noted = bundle.provenance.get('calibration')
    source = f' ({noted["source"]})' if isinstance(noted, dict) and 'source' in noted else ''
    return f'give the calibration images of `fit`{source} (--calibration)'


def _trained_on(
    bundle: Bundle, images: ImageSource, digests: Sequence[bytes]
) -> np.ndarray:
    """Return to which images the monitor was fitted, bool (N,), as far as the bundle lists them.

    Raises:
        NavMonitorError: It was fitted to all of them.
    """
    if bundle.training_images is not None:
        trained = bundle.training_images.contain(digests)
    else:  # an earlier version stored only one fingerprint of all of them
        total = add_fingerprints(
            images.fingerprint_part(place, digest) for place, digest in enumerate(digests)
        )
        data = bundle.provenance.get('data')
        noted = data.get('sha256') if isinstance(data, dict) else None
        trained = np.full(len(digests), fingerprint_of(total) == noted)
    if trained.all():
        raise NavMonitorError(
            f'{images.name} holds the images that the monitor was fitted to, on which every '
            f'backend looks better than it is; {calibration_advice(bundle)}'
        )
    if trained.any():
        _log.warning(
            '%d of %d images are not used: the monitor was fitted to them', int(trained.sum()),
            len(images),
        )
    return trained
